//! The columnar index: what is derived from the ledger so that questions are answered fast.
