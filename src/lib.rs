//! Twelve: 12-factor agents that live in chat threads and ask before they act. (the map is in work)

pub mod agent;
pub mod config;
pub mod store;
pub mod telemetry;
pub mod tools;
