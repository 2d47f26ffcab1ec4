//! The one integration binary: one module for each room of the program.

mod architecture;
mod runtime;
mod store_contract;
mod store_faults;
mod world;
