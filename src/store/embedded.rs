//! SQLite behind one writer (in work).
