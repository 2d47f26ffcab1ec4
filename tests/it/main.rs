//! The one integration binary: one module for each room of the program.

mod cli_chat;
mod demo;
mod store_contract;
mod store_faults;
