//! A progress bar for people, a few plain lines for files.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::write_err;

/// Where nobody watches, a line is written no more often than this.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// Work in progress.
#[derive(Debug)]
pub(crate) struct Bar {
    what: String,
    /// None where nobody knows.
    n_total: Option<u64>,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Drawn(ProgressBar),
    Plain { last_line: Option<(Instant, u64)> },
}

impl Bar {
    /// A bar named `what` for `n_total` steps, or a count. `is_interactive`: drawn in place; else plain lines.
    pub(super) fn new(what: &str, n_total: Option<u64>, is_interactive: bool) -> Self {
        let shown = if is_interactive {
            let bar = ProgressBar::with_draw_target(n_total, ProgressDrawTarget::stderr());
            // The template is a constant; should it ever be wrong, indicatif's own default is a bar, too.
            let template = match n_total {
                Some(_) => "{prefix} [{bar:24}] {pos}/{len}  {msg}",
                None => "{prefix} {pos}  {msg}",
            };
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("=> "));
            bar.set_prefix(what.to_owned());
            Shown::Drawn(bar)
        } else {
            Shown::Plain { last_line: None }
        };
        Self { what: what.to_owned(), n_total, shown }
    }

    /// `n_done` steps are done; `message` stands behind the count.
    pub(crate) fn update(&mut self, n_done: u64, message: &str) {
        match &mut self.shown {
            Shown::Drawn(bar) => {
                bar.set_position(n_done);
                bar.set_message(message.to_owned());
            }
            Shown::Plain { last_line } => {
                let is_due = match last_line {
                    None => true,
                    Some((at, n_shown)) => {
                        *n_shown != n_done && (PLAIN_INTERVAL <= at.elapsed() || Some(n_done) == self.n_total)
                    }
                };
                if is_due {
                    *last_line = Some((Instant::now(), n_done));
                    let of = self.n_total.map(|n_total| format!("/{n_total}")).unwrap_or_default();
                    let line = format!("{} {n_done}{of}  {message}", self.what);
                    write_err(format_args!("{}\n", line.trim_end()));
                }
            }
        }
    }

    /// A line above the bar, or a line of its own.
    pub(crate) fn say(&self, text: &str) {
        match &self.shown {
            Shown::Drawn(bar) => bar.suspend(|| write_err(format_args!("{text}\n"))),
            Shown::Plain { .. } => write_err(format_args!("{text}\n")),
        }
    }

    /// Leaves the last state on the screen.
    pub(crate) fn finish(self) {
        if let Shown::Drawn(bar) = self.shown {
            bar.abandon();
        }
    }
}

/// Seconds as people read them: `42s`, `3m05s`, `2h07m`.
pub(crate) fn human_secs(secs: f64) -> String {
    if !secs.is_finite() || secs < 0.0 {
        return "?".to_owned();
    }
    let n_secs = Duration::from_secs_f64(secs.min(1e9)).as_secs();
    match (n_secs / 3600, n_secs / 60 % 60, n_secs % 60) {
        (0, 0, secs) => format!("{secs}s"),
        (0, minutes, secs) => format!("{minutes}m{secs:02}s"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::human_secs;

    #[test]
    fn lengths_of_time_read_well() {
        assert_eq!(human_secs(41.9), "41s");
        assert_eq!(human_secs(185.0), "3m05s");
        assert_eq!(human_secs(7_620.0), "2h07m");
        assert_eq!(human_secs(f64::NAN), "?");
        assert_eq!(human_secs(-1.0), "?");
    }
}
