//! The one integration binary: one module for each room of the program.

mod architecture;
mod browser;
mod canon;
mod cli;
mod cli_chat;
mod cli_serve;
mod config;
mod core;
mod crash;
mod demo;
mod demo_service;
mod doctor;
mod doubts;
mod fake_service;
mod fake_slack;
mod fakes;
mod http_api;
mod http_console;
mod http_guard;
mod http_loopback;
mod http_rest;
mod http_serve;
mod http_webhooks;
mod intents;
mod llm;
mod one_person;
mod ops;
mod postings;
mod prompts;
mod runtime;
mod schedules;
mod shown;
mod site;
mod slack_away;
mod slack_blocks;
mod slack_commands;
mod slack_home;
mod slack_http;
mod slack_inbound;
mod slack_lookup;
mod slack_manifest;
mod slack_post;
mod slack_process;
mod slack_progress;
mod slack_setup;
mod slack_socket;
mod slack_stories;
mod slack_world;
mod store_contract;
mod store_faults;
mod store_rebuild;
mod too_long;
mod tools_deploy;
mod tools_email;
mod tools_files;
mod tools_net;
mod tools_registry;
mod tools_status;
mod tools_support;
mod untrusted;
mod vendors;
mod world;

/// reqwest's rustls panics without a provider; the first test that needs one installs it.
pub fn crypto() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    // An error means that somebody installed it before: fine.
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

/// To be called before a test listens to the log of its own thread. While only one subscriber is alive, tracing
/// asks the thread that comes by a log line first, and remembers its answer for all: a test without a subscriber
/// would silence the line for the one that listens. With this second one it asks them all.
pub fn listening() {
    static SECOND: std::sync::LazyLock<tracing::Dispatch> =
        std::sync::LazyLock::new(|| tracing::Dispatch::new(tracing_subscriber::registry()));
    std::sync::LazyLock::force(&SECOND);
}
