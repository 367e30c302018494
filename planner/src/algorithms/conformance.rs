//! Laws that every algorithm keeps, over all of [`super::ALL`].
