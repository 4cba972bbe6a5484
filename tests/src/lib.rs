//! Support for the whole-product tests.
