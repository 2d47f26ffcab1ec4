//! Socket Mode: envelopes over a socket that we dial.
