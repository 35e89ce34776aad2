//! The time account of a run as a table.

use tunesmith_train::{Operation, Profile};

use crate::terminal::{Table, Terminal};

/// Shows where the time of the training steps went.
pub(crate) fn show(account: &Profile, terminal: &Terminal) {
    if account.n_steps == 0 {
        return;
    }
    terminal.heading(&format!(
        "time of {} training steps, {:.3} s each",
        account.n_steps,
        account.secs / account.n_steps as f64
    ));
    for line in table(account).render_figures() {
        terminal.line(line);
    }
    terminal.line(format_args!(
        "this machine at most: {} GFLOP/s with factors in {}, {} GB/s from and to memory",
        giga(account.peak_flops_per_sec),
        account.factors,
        giga(account.peak_bytes_per_sec)
    ));
    terminal.line("");
}

fn table(account: &Profile) -> Table {
    let mut table =
        Table::new(&["operation", "calls/step", "ms/step", "share", "GFLOP/s", "GB/s", "of the peak"]);
    for operation in &account.operations {
        let cells = cells(operation, account);
        table.row(&cells.each_ref().map(String::as_str));
    }
    table
}

fn cells(operation: &Operation, account: &Profile) -> [String; 7] {
    let n_steps = account.n_steps.max(1) as f64;
    let calls = match operation.n_calls {
        0 => String::new(),
        // Calls differ from step to step where micro-batches do.
        n if n % account.n_steps.max(1) == 0 => (n / account.n_steps.max(1)).to_string(),
        n => format!("{:.1}", n as f64 / n_steps),
    };
    let or_nothing = |figure: Option<f64>, form: fn(f64) -> String| figure.map(form).unwrap_or_default();
    [
        operation.name.clone(),
        calls,
        format!("{:.2}", 1e3 * operation.secs / n_steps),
        percent(operation.secs / account.secs.max(1e-9)),
        or_nothing(operation.flops_per_sec(), giga),
        or_nothing(operation.bytes_per_sec(), giga),
        or_nothing(operation.share_of_peak, percent),
    ]
}

fn giga(per_sec: f64) -> String {
    format!("{:.1}", per_sec / 1e9)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_figures_of_one_step_and_leaves_out_what_is_not_known() {
        let operation = |name: &str, n_calls, secs, n_flops, share_of_peak| Operation {
            name: name.to_owned(),
            n_calls,
            secs,
            n_flops,
            n_bytes: 0,
            share_of_peak,
        };
        let account = Profile {
            n_steps: 4,
            secs: 2.0,
            factors: "float32".to_owned(),
            peak_flops_per_sec: 1e11,
            peak_bytes_per_sec: 1e10,
            operations: vec![
                operation("linear forward", 40, 1.5, 75_000_000_000, Some(0.5)),
                operation("adding gradients", 6, 0.3, 0, None),
                operation(Profile::EVERYTHING_ELSE, 0, 0.2, 0, None),
            ],
        };
        let expected = "\
operation         calls/step  ms/step   share  GFLOP/s  GB/s  of the peak
linear forward            10   375.00  75.0 %     50.0             50.0 %
adding gradients         1.5    75.00  15.0 %
everything else                 50.00  10.0 %";
        assert_eq!(table(&account).render_figures().join("\n"), expected);
    }
}
