//! A session over russh.
