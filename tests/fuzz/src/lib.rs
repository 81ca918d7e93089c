//! What several targets share: damaged copies of valid inputs, a search for card numbers that owes
//! nothing to the product's own, and a small ledger.

pub mod cards;
pub mod damage;
pub mod ledger;
pub mod reference;
pub mod spelt;
