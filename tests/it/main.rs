//! The one integration binary: one module for each room of the program.

mod architecture;
mod fakes;
mod llm;
mod runtime;
mod store_contract;
mod store_faults;
mod world;
