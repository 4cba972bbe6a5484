//! The manifest and its formats: pure data.
