//! Tests of the sessions there are.
