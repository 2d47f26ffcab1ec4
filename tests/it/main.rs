//! The one integration binary: one module for each room of the program.

mod demo_service;
mod fake_service;
mod tools_deploy;
mod tools_registry;
mod tools_status;

/// reqwest panics without a TLS provider; `main` installs it in the real program.
fn crypto() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
