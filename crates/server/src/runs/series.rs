//! The curves of a run for charts, thinned so that no peak is lost.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::event_file::{Found, Place, lines_after};

/// All curves of a run up to a place in its events.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Curves {
    series: Vec<Series>,
    n_lines: usize,
    /// Where to follow the events from.
    next_id: String,
}

/// One curve: values by optimizer step.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Series {
    name: &'static str,
    /// Step and value.
    #[schema(value_type = Vec<(u64, f64)>)]
    points: Vec<(u64, f64)>,
}

/// The curves: name, event, field, and whether the field is in `timing`.
const CURVES: [(&str, &str, &str, bool); 9] = [
    ("train_loss", "step", "loss", false),
    ("learning_rate", "step", "learning_rate", false),
    ("differential_learning_rate", "step", "differential_learning_rate", false),
    ("gradient_norm", "step", "gradient_norm", false),
    ("tokens_per_sec", "step", "tokens_per_sec", true),
    ("memory_bytes", "step", "peak_memory_bytes", true),
    ("validation_loss", "evaluation", "loss", false),
    ("validation_perplexity", "evaluation", "perplexity", false),
    ("validation_metric", "evaluation", "metric_value", false),
];

impl Curves {
    /// Reads the events at `path` from the beginning.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let mut curves = Self::empty();
        let mut place = Place::default();
        loop {
            match lines_after(path, place)? {
                Found::Cut => (curves, place) = (Self::empty(), Place::default()),
                Found::Lines(lines) if lines.is_empty() => break,
                Found::Lines(lines) => {
                    for (after, line) in lines {
                        place = after;
                        curves.n_lines += 1;
                        if let Ok(event) = serde_json::from_str(&line) {
                            curves.take(&event);
                        }
                    }
                }
            }
        }
        curves.next_id = place.to_text();
        curves.series.retain(|series| !series.points.is_empty());
        Ok(curves)
    }

    /// At most about `max_points` points of each curve.
    pub(crate) fn thin(&mut self, max_points: usize) {
        for series in &mut self.series {
            series.points = thinned(&series.points, max_points);
        }
    }

    /// One row for each step, one column for each curve.
    pub(crate) fn to_csv(&self) -> String {
        let mut text = "step".to_owned();
        for series in &self.series {
            let _ = write!(text, ",{}", series.name);
        }
        let mut steps: Vec<u64> =
            self.series.iter().flat_map(|series| series.points.iter().map(|(step, _)| *step)).collect();
        steps.sort_unstable();
        steps.dedup();
        let mut rest: Vec<&[(u64, f64)]> =
            self.series.iter().map(|series| series.points.as_slice()).collect();
        for step in steps {
            let _ = write!(text, "\n{step}");
            for points in &mut rest {
                text.push(',');
                // The last value of a step counts; there is only ever one.
                let n_here = points.iter().take_while(|(at, _)| *at == step).count();
                if let Some((_, value)) = n_here.checked_sub(1).and_then(|idx| points.get(idx)) {
                    let _ = write!(text, "{value}");
                }
                *points = points.get(n_here..).unwrap_or_default();
            }
        }
        text.push('\n');
        text
    }

    fn empty() -> Self {
        let series = CURVES.iter().map(|(name, ..)| Series { name, points: Vec::new() }).collect();
        Self { series, n_lines: 0, next_id: String::new() }
    }

    fn take(&mut self, event: &Value) {
        let kind = event.get("event").and_then(Value::as_str).unwrap_or_default();
        let Some(step) = event.get("step").and_then(Value::as_u64) else { return };
        for (series, (_, of_kind, field, is_timing)) in self.series.iter_mut().zip(CURVES) {
            let place = if is_timing { event.get("timing") } else { Some(event) };
            let value = place.and_then(|place| place.get(field)).and_then(Value::as_f64);
            if let (true, Some(value)) = (kind == of_kind, value) {
                series.points.push((step, value));
            }
        }
    }
}

/// The first and last point, and the lowest and highest of each of equally long stretches between them, in order.
fn thinned(points: &[(u64, f64)], max_points: usize) -> Vec<(u64, f64)> {
    let max_points = max_points.max(4);
    if points.len() <= max_points {
        return points.to_vec();
    }
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Vec::new() };
    let inner = points.get(1..points.len() - 1).unwrap_or_default();
    let n_stretches = (max_points - 2) / 2;
    let mut kept = vec![*first];
    for stretch_idx in 0..n_stretches {
        let bound = |idx: usize| idx * inner.len() / n_stretches;
        let stretch = inner.get(bound(stretch_idx)..bound(stretch_idx + 1)).unwrap_or_default();
        let place_of = |(idx, _): (usize, &(u64, f64))| idx;
        let by_value = |a: &(usize, &(u64, f64)), b: &(usize, &(u64, f64))| a.1.1.total_cmp(&b.1.1);
        let lowest = stretch.iter().enumerate().min_by(by_value).map(place_of);
        let highest = stretch.iter().enumerate().max_by(by_value).map(place_of);
        let mut chosen: Vec<usize> = lowest.into_iter().chain(highest).collect();
        chosen.sort_unstable();
        chosen.dedup();
        kept.extend(chosen.into_iter().filter_map(|idx| stretch.get(idx).copied()));
    }
    kept.push(*last);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_peaks_ends_and_order() {
        let mut points: Vec<(u64, f64)> =
            (0..10_000).map(|step| (step, (step as f64 / 500.0).sin())).collect();
        points[1234].1 = 50.0;
        points[7777].1 = -50.0;
        let few = thinned(&points, 100);
        assert!(few.len() <= 100, "{}", few.len());
        for kept in [0, 1234, 7777, 9999] {
            assert!(few.contains(&points[kept]), "{kept}");
        }
        assert!(few.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(thinned(&points[..100], 100), points[..100], "few enough already");
        assert_eq!(thinned(&[], 100), []);
    }

    #[test]
    fn curves_come_from_events_and_go_into_a_table() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        std::fs::write(
            &path,
            concat!(
                r#"{"event":"run_started","n_steps":2,"timing":{}}"#,
                "\n",
                r#"{"event":"step","step":1,"loss":2.5,"learning_rate":0.1,"gradient_norm":null,"timing":{"tokens_per_sec":7}}"#,
                "\n",
                r#"{"event":"step","step":2,"loss":1.5,"learning_rate":0.05,"timing":{"tokens_per_sec":8}}"#,
                "\n",
                r#"{"event":"evaluation","step":2,"loss":1.25,"perplexity":4,"timing":{}}"#,
                "\n",
            ),
        )
        .unwrap();
        let curves = Curves::read(&path).unwrap();
        let names: Vec<&str> = curves.series.iter().map(|series| series.name).collect();
        assert_eq!(
            names,
            ["train_loss", "learning_rate", "tokens_per_sec", "validation_loss", "validation_perplexity"]
        );
        assert_eq!(curves.n_lines, 4);
        assert_eq!(
            curves.to_csv(),
            "step,train_loss,learning_rate,tokens_per_sec,validation_loss,validation_perplexity\n\
             1,2.5,0.1,7,,\n2,1.5,0.05,8,1.25,4\n"
        );
    }
}
