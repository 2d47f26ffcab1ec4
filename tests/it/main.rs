//! The one integration binary: one module for each room of the program.

mod cli;
mod store_contract;
mod store_faults;
