//! docs/performance.md: the stored runs as tables. The same runs always give the same text.

use std::fmt::Write as _;

use super::report::{Budget, Figure, Run};

/// What the document is, for its readers.
const HEAD: &str = include_str!("../../../docs/performance/head.md");

/// The whole document: each run with the remark on it, and what made things faster.
pub fn render(runs: &[(Run, String)], gains: &str) -> String {
    let mut text = HEAD.to_owned();
    text.push_str(&machines(runs));
    text.push_str("\n## Budgets\n\n| what | budget | measured | |\n| --- | --- | --- | --- |\n");
    for (run, figure) in runs.iter().flat_map(|(run, _)| run.figures.iter().map(move |f| (run, f)))
    {
        if let Some(budget) = figure.budget {
            let verdict = verdict(figure, budget);
            let (name, unit) = (&figure.name, &figure.unit);
            let measured = with_unit(figure.median, unit);
            let line = format!(
                "| {}: {name} | {} | {measured} | {verdict} |\n",
                run.bench,
                shown(budget, unit)
            );
            text.push_str(&line);
        }
    }
    for (run, remark) in runs {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n## {}\n\n", run.bench);
        for sentence in &run.how {
            let _ = writeln!(text, "{}\n", wrapped(sentence));
        }
        text.push_str(&table(run));
        if !remark.trim().is_empty() {
            let _ = writeln!(text, "\n{}", remark.trim());
        }
    }
    if !gains.trim().is_empty() {
        let _ = writeln!(text, "\n{}", gains.trim());
    }
    text
}

/// The figures of one run.
pub fn table(run: &Run) -> String {
    let mut text = "| figure | median | spread | rounds | budget | |\n".to_owned();
    text.push_str("| --- | --- | --- | --- | --- | --- |\n");
    for figure in &run.figures {
        let Figure { name, unit, min, max, rounds, .. } = figure;
        let spread = if *rounds > 1 {
            format!("{} – {}", number(*min, unit), number(*max, unit))
        } else {
            "–".to_owned()
        };
        let (limit, word) = match figure.budget {
            Some(budget) => (shown(budget, unit), verdict(figure, budget)),
            None => ("–".to_owned(), String::new()),
        };
        let median = with_unit(figure.median, unit);
        let _ = writeln!(text, "| {name} | {median} | {spread} | {rounds} | {limit} | {word} |");
    }
    if run.quick {
        text.push_str("\nQuick rounds: not to be quoted.\n");
    }
    text
}

fn machines(runs: &[(Run, String)]) -> String {
    let mut seen: Vec<(String, Vec<&str>)> = Vec::new();
    for (run, _) in runs {
        let machine = &run.machine;
        let line = format!(
            "{}, {} processors, {:.0} GiB, Linux {}, {}, rustc {}, {}",
            machine.cpu,
            machine.cores,
            machine.memory_mib as f64 / 1024.0,
            machine.kernel,
            machine.file_system,
            machine.rustc,
            machine.date,
        );
        match seen.iter_mut().find(|(known, _)| *known == line) {
            Some((_, benches)) => benches.push(&run.bench),
            None => seen.push((line, vec![&run.bench])),
        }
    }
    let lines = seen.iter().map(|(line, benches)| format!("\n* {line}: {}", benches.join(", ")));
    lines.collect::<String>() + "\n"
}

fn shown(budget: Budget, unit: &str) -> String {
    match budget {
        Budget::AtMost(limit) => format!("≤ {}", with_unit(limit, unit)),
        Budget::AtLeast(limit) => format!("≥ {}", with_unit(limit, unit)),
    }
}

/// Met, or how far off.
fn verdict(figure: &Figure, budget: Budget) -> String {
    if figure.met == Some(true) {
        return "met".to_owned();
    }
    let (Budget::AtMost(limit) | Budget::AtLeast(limit)) = budget;
    let off = (figure.median / limit - 1.0) * 100.0;
    format!("**missed by {:.1} %**", off.abs())
}

fn with_unit(value: f64, unit: &str) -> String {
    match unit {
        "ratio" => number(value, unit),
        unit => format!("{} {unit}", number(value, unit)),
    }
}

/// A number as people read it: ratios with three decimals, large ones in groups of three.
fn number(value: f64, unit: &str) -> String {
    if unit == "ratio" {
        return format!("{value:.3}");
    }
    if value < 1000.0 {
        return format!("{value:.1}").trim_end_matches(".0").to_owned();
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Lines of at most 120 columns.
fn wrapped(sentence: &str) -> String {
    let mut text = String::new();
    let mut column = 0;
    for word in sentence.split_whitespace() {
        let width = word.chars().count();
        if column > 0 && column + 1 + width > 120 {
            text.push('\n');
            column = 0;
        } else if column > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += width;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::sample;
    use super::*;

    #[test]
    fn a_missed_budget_says_by_how_much() {
        let text = render(&[(sample(), "It could be better.".to_owned())], "## Gains\n");
        for line in [
            "| exec: exec, on ÷ off | ≤ 1.030 | 1.020 | met |",
            "| exec: records | ≥ 200,000 records/s | 150,000 records/s | **missed by 25.0 %** |",
            "| exec, on ÷ off | 1.020 | 1.000 – 1.041 | 3 | ≤ 1.030 | met |",
            "| base | 128.4 µs | – | 1 | – |  |",
            "* Some CPU, 2 processors, 23 GiB, Linux 6.12.1, ext2/ext3, rustc 1.95.0, \
             2026-11-23: exec",
            "It could be better.",
            "## Gains",
        ] {
            assert!(text.lines().any(|is| is == line), "no line `{line}` in:\n{text}");
        }
    }

    #[test]
    fn long_sentences_are_wrapped() {
        let text = wrapped(&"word ".repeat(60));
        assert!(text.lines().all(|line| line.len() <= 120) && text.lines().count() == 3, "{text}");
    }
}
