//! What must be retrained, and why.
