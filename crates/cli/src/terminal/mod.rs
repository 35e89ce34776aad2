//! Everything the program says goes through here.
//!
//! Results go to standard output, so that they can be piped; progress, notes, warnings and errors go to standard error.
//! Colour is used only on a terminal and never when `NO_COLOR` is set or `--no-color` is given. A reader that goes
//! away (`tunesmith … | head`) is no error: the work goes on quietly, because it may be a training run.

mod bar;
mod table;

use std::cell::Cell;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::failure::{Exit, Failure};

pub(crate) use bar::{Bar, human_secs};
pub(crate) use table::Table;

/// How a piece of text is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Headings.
    Bold,
    /// Side remarks.
    Dim,
    /// Success.
    Green,
    /// Warnings.
    Yellow,
    /// Errors.
    Red,
    /// Commands to type, paths.
    Cyan,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Red => "31",
            Self::Cyan => "36",
        }
    }
}

/// The user's terminal, or the files and pipes that stand in for it.
#[derive(Debug)]
pub(crate) struct Terminal {
    is_out_coloured: bool,
    is_err_coloured: bool,
    is_interactive: bool,
    /// The first failure to write results, other than a reader that went away.
    write_error: Cell<Option<io::ErrorKind>>,
}

impl Terminal {
    /// Looks at the standard streams and the environment; `no_color` is the command line's wish.
    pub(crate) fn new(no_color: bool) -> Self {
        let wants_colour = !no_color
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            is_out_coloured: wants_colour && io::stdout().is_terminal(),
            is_err_coloured: wants_colour && io::stderr().is_terminal(),
            is_interactive: io::stderr().is_terminal(),
            write_error: Cell::new(None),
        }
    }

    /// Whether standard output takes colour.
    pub(crate) const fn is_coloured(&self) -> bool {
        self.is_out_coloured
    }

    /// Whether somebody watches the progress.
    pub(crate) const fn is_interactive(&self) -> bool {
        self.is_interactive
    }

    /// The width to lay tables out for, in columns: the terminal's, within reason.
    pub(crate) fn width(&self) -> usize {
        const WIDTH_OF_A_FILE: usize = 100;
        if !io::stdout().is_terminal() {
            return WIDTH_OF_A_FILE;
        }
        let (_, n_columns) = console::Term::stdout().size();
        usize::from(n_columns).clamp(60, 140)
    }

    /// One line of results.
    pub(crate) fn line(&self, text: impl Display) {
        self.write_out(format_args!("{text}\n"));
    }

    /// A piece of a line of results, shown at once.
    pub(crate) fn stream(&self, text: &str) {
        self.write_out(format_args!("{text}"));
    }

    /// A heading with a blank line before it.
    pub(crate) fn heading(&self, text: &str) {
        self.line(format_args!("\n{}", self.paint(Style::Bold, text)));
    }

    /// A value as one line of JSON.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value)
            .map_err(|error| Failure::from_error(Exit::Internal, &error, None))?;
        self.line(text);
        Ok(())
    }

    /// A value as indented JSON.
    pub(crate) fn pretty_json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::from_error(Exit::Internal, &error, None))?;
        self.line(text);
        Ok(())
    }

    /// Something worth knowing that is no result.
    pub(crate) fn note(&self, text: impl Display) {
        write_err(format_args!("{text}\n"));
    }

    /// Something that works but perhaps not as intended.
    pub(crate) fn warning(&self, text: impl Display) {
        write_err(format_args!("{}: {text}\n", paint_if(self.is_err_coloured, Style::Yellow, "warning")));
    }

    /// The end of the program, if it did not succeed.
    pub(crate) fn failure(&self, failure: &Failure) {
        write_err(format_args!("{}: {failure}\n", paint_if(self.is_err_coloured, Style::Red, "error")));
        if let Some(hint) = &failure.hint {
            write_err(format_args!("{}: {hint}\n", paint_if(self.is_err_coloured, Style::Cyan, "hint")));
        }
    }

    /// A progress bar on standard error, or plain lines now and then when nobody watches.
    pub(crate) fn bar(&self, what: &str, n_total: u64) -> Bar {
        Bar::new(what, Some(n_total), self.is_interactive)
    }

    /// The same for work of which nobody knows how long it is.
    pub(crate) fn counter(&self, what: &str) -> Bar {
        Bar::new(what, None, self.is_interactive)
    }

    /// `text` in a style, if results are coloured.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        paint_if(self.is_out_coloured, style, text)
    }

    /// `text` in a style, if notes are coloured.
    pub(crate) fn paint_note(&self, style: Style, text: &str) -> String {
        paint_if(self.is_err_coloured, style, text)
    }

    /// Fails when results could not be written, e.g. into a file on a full disk.
    pub(crate) fn finish(&self) -> Result<(), Failure> {
        match self.write_error.get() {
            None => Ok(()),
            Some(kind) => Err(Failure::new(Exit::Output, format!("cannot write to standard output: {kind}"))
                .hint("check where the output goes and that the disk has room")),
        }
    }

    fn write_out(&self, text: std::fmt::Arguments<'_>) {
        let mut out = io::stdout().lock();
        let written = out.write_fmt(text).and_then(|()| out.flush());
        if let Err(error) = written
            && error.kind() != io::ErrorKind::BrokenPipe
            && self.write_error.get().is_none()
        {
            self.write_error.set(Some(error.kind()));
        }
    }
}

/// How the user called this program, for commands to type: its path if it was called by one.
pub(crate) fn program_name() -> String {
    let called = std::env::args_os().next().map(|name| name.to_string_lossy().into_owned());
    let Some(called) = called.filter(|name| name.contains('/')) else { return "tunesmith".to_owned() };
    // Shorter from here, when it lies below the current folder.
    let here = std::env::current_dir().map(|folder| format!("{}/", folder.display())).unwrap_or_default();
    called.strip_prefix(&here).filter(|_| !here.is_empty()).unwrap_or(&called).to_owned()
}

/// Asks for a line of text; `None` at the end of the input.
pub(crate) fn read_line(prompt: &str) -> io::Result<Option<String>> {
    if io::stdin().is_terminal() {
        write_err(format_args!("{prompt}"));
    }
    let mut line = String::new();
    let n_bytes = io::stdin().read_line(&mut line)?;
    Ok((0 < n_bytes).then(|| line.trim_end_matches(['\n', '\r']).to_owned()))
}

/// Standard error is the last resort: when it is gone there is nobody left to tell.
pub(crate) fn write_err(text: std::fmt::Arguments<'_>) {
    let mut err = io::stderr().lock();
    let _ = err.write_fmt(text).and_then(|()| err.flush());
}

fn paint_if(is_coloured: bool, style: Style, text: &str) -> String {
    if is_coloured { format!("\x1b[{}m{text}\x1b[0m", style.code()) } else { text.to_owned() }
}
