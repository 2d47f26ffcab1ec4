//! Twelve: 12-factor agents that live in chat threads and ask before they act. (the map is in work)

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::todo, clippy::dbg_macro)]

pub mod agent;
pub mod app;
pub mod cli;
pub mod config;
pub mod demo_service;
pub mod llm;
pub mod platform;
pub mod runtime;
pub mod store;
pub mod telemetry;
pub mod tools;
