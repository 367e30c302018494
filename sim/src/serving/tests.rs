//! Services that are solved by hand.
