//! The one integration binary: one module for each room of the program.

mod architecture;
mod config;
mod demo_service;
mod fake_service;
mod fakes;
mod llm;
mod prompts;
mod runtime;
mod store_contract;
mod store_faults;
mod tools_deploy;
mod tools_registry;
mod tools_status;
mod world;
