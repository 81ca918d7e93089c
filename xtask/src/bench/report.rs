//! What a bench program printed, as figures: median, spread, and whether the budget is met.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::machine::Machine;

/// One run of one bench.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub bench: String,
    pub machine: Machine,
    /// Few and short rounds: not to be quoted.
    pub quick: bool,
    /// How it was measured, in sentences.
    pub how: Vec<String>,
    pub figures: Vec<Figure>,
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    pub name: String,
    pub unit: String,
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub rounds: usize,
    pub budget: Option<Budget>,
    /// Whether the median is within the budget.
    pub met: Option<bool>,
}

/// What a figure must reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    AtMost(f64),
    AtLeast(f64),
}

/// A line of a bench program.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    How {
        how: String,
    },
    Figure {
        figure: String,
        unit: String,
        samples: Vec<f64>,
        at_most: Option<f64>,
        at_least: Option<f64>,
    },
}

impl Run {
    /// Reads what a bench program printed.
    pub fn from_lines(bench: &str, machine: Machine, quick: bool, output: &str) -> Result<Self> {
        let mut run =
            Self { bench: bench.to_owned(), machine, quick, how: Vec::new(), figures: Vec::new() };
        for line in output.lines().filter(|line| !line.trim().is_empty()) {
            let parsed = serde_json::from_str(line);
            match parsed.with_context(|| format!("{bench} printed what is no figure: {line}"))? {
                Line::How { how } => run.how.push(how),
                Line::Figure { figure, unit, samples, at_most, at_least } => {
                    let budget = at_most.map(Budget::AtMost).or(at_least.map(Budget::AtLeast));
                    run.figures.push(Figure::of(figure, unit, samples, budget)?);
                }
            }
        }
        ensure!(!run.figures.is_empty(), "{bench} printed no figure");
        Ok(run)
    }
}

impl Figure {
    fn of(
        name: String,
        unit: String,
        mut samples: Vec<f64>,
        budget: Option<Budget>,
    ) -> Result<Self> {
        samples.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (samples.first(), samples.last()) else {
            anyhow::bail!("the figure `{name}` has no samples");
        };
        let median = rounded(median(&samples));
        let met = budget.map(|budget| match budget {
            Budget::AtMost(limit) => median <= limit,
            Budget::AtLeast(limit) => median >= limit,
        });
        let rounds = samples.len();
        Ok(Self { name, unit, median, min: rounded(min), max: rounded(max), rounds, budget, met })
    }
}

/// The middle of sorted samples; between two, their mean.
fn median(sorted: &[f64]) -> f64 {
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(at(middle.saturating_sub(1)), at(middle))
    } else {
        at(middle)
    }
}

/// Five significant digits: more would be noise, and noise in every diff.
fn rounded(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Budget, Machine, Run};

    /// A run as a bench program on some machine would have printed it.
    pub fn sample() -> Run {
        let machine = Machine {
            cpu: "Some CPU".to_owned(),
            cores: 2,
            memory_mib: 24_000,
            kernel: "6.12.1".to_owned(),
            rustc: "1.95.0".to_owned(),
            file_system: "ext2/ext3".to_owned(),
            date: "2026-11-23".to_owned(),
        };
        let output = "{\"how\":\"Very carefully.\"}\n\
            {\"figure\":\"exec, on ÷ off\",\"unit\":\"ratio\",\
            \"samples\":[1.02,1.0,1.041],\"at_most\":1.03}\n\
            {\"figure\":\"records\",\"unit\":\"records/s\",\
            \"samples\":[100000,200000],\"at_least\":200000}\n\
            {\"figure\":\"base\",\"unit\":\"µs\",\"samples\":[128.4]}\n";
        Run::from_lines("exec", machine, false, output).unwrap()
    }

    #[test]
    fn the_median_is_judged_and_the_spread_is_kept() {
        let run = sample();
        let [exec, records, base] = run.figures.as_slice() else { panic!("{run:?}") };
        assert_eq!((exec.median, exec.min, exec.max, exec.rounds), (1.02, 1.0, 1.041, 3));
        assert_eq!((exec.budget, exec.met), (Some(Budget::AtMost(1.03)), Some(true)));
        assert_eq!((records.median, records.met), (150_000.0, Some(false)));
        assert_eq!((base.median, base.budget, base.met), (128.4, None, None));
    }

    #[test]
    fn a_run_reads_as_it_was_written() {
        let text = serde_json::to_string_pretty(&sample()).unwrap();
        assert_eq!(serde_json::from_str::<Run>(&text).unwrap(), sample());
    }

    #[test]
    fn what_is_no_figure_is_named() {
        let machine = sample().machine;
        let refused = |text| {
            let run = Run::from_lines("ring", machine.clone(), true, text);
            format!("{:#}", run.unwrap_err())
        };
        assert!(refused("hello").contains("ring printed what is no figure: hello"));
        assert!(refused("{\"how\":\"x\"}").contains("ring printed no figure"));
    }
}
