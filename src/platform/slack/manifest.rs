//! The app's manifest, and which scope each feature needs.
