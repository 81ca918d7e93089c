//! The functions a statement may call. Those that can make much out of little (`repeat`, `lpad`,
//! `concat`, `replace`, `array_agg`, …) are left out: what a function makes is not counted
//! against the memory of a query before it is there.

use std::sync::Arc;

use datafusion::{
    execution::SessionStateDefaults,
    logical_expr::{AggregateUDF, ScalarUDF},
};

/// Functions of one row.
pub const SCALAR: [&str; 41] = [
    "abs",
    "arrow_typeof",
    "bit_length",
    "btrim",
    "ceil",
    "character_length",
    "coalesce",
    "contains",
    "date_bin",
    "date_part",
    "date_trunc",
    "ends_with",
    "floor",
    "from_unixtime",
    "greatest",
    "initcap",
    "least",
    "left",
    "lower",
    "ltrim",
    "now",
    "nullif",
    "nvl",
    "octet_length",
    "regexp_count",
    "regexp_instr",
    "regexp_like",
    "reverse",
    "right",
    "round",
    "rtrim",
    "split_part",
    "starts_with",
    "strpos",
    "substr",
    "substr_index",
    "to_date",
    "to_timestamp",
    "to_unixtime",
    "trunc",
    "upper",
];
/// Functions of many rows.
pub const AGGREGATE: [&str; 13] = [
    "approx_distinct",
    "approx_percentile_cont",
    "avg",
    "bit_and",
    "bit_or",
    "bool_and",
    "bool_or",
    "count",
    "max",
    "min",
    "stddev",
    "sum",
    "var",
];

/// The functions themselves.
#[derive(Debug)]
pub struct Functions {
    /// Of one row.
    pub scalar: Vec<Arc<ScalarUDF>>,
    /// Of many rows.
    pub aggregate: Vec<Arc<AggregateUDF>>,
}

impl Functions {
    /// Those of [`SCALAR`] and [`AGGREGATE`].
    pub fn known() -> Self {
        let scalar = SessionStateDefaults::default_scalar_functions().into_iter();
        let aggregate = SessionStateDefaults::default_aggregate_functions().into_iter();
        Self {
            scalar: scalar.filter(|function| SCALAR.contains(&function.name())).collect(),
            aggregate: aggregate.filter(|function| AGGREGATE.contains(&function.name())).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_of_the_lists_exists() {
        let known = Functions::known();
        let mut scalar: Vec<_> = known.scalar.iter().map(|function| function.name()).collect();
        scalar.sort_unstable();
        assert_eq!(scalar, SCALAR);
        let mut aggregate: Vec<_> = known.aggregate.iter().map(|f| f.name()).collect();
        aggregate.sort_unstable();
        assert_eq!(aggregate, AGGREGATE);
    }
}
