//! Loopback fakes of what the program talks to. They check what they receive, and a test fails when a
//! fake got something that the real service would refuse, or did not get what it was told to expect.

pub mod model;

/// The TLS provider that `main` installs; reqwest panics without one.
pub fn ring() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
