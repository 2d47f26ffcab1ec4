//! The one integration binary: one module for each room of the program.

mod core;
