//! Loopback fakes of what the program talks to. They check what they receive, and a test fails when a
//! fake got something that the real service would refuse, or did not get what it was told to expect.

pub mod model;
pub mod slack;
pub mod smtp;
