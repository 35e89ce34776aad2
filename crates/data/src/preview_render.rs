//! A preview as text: with colours for a terminal, with brackets for a file.
//!
//! What is learned stands on green (in brackets ⟦…⟧ without colour), prompts are dim, special tokens have a colour
//! of their own (‹…› without colour). A line end shows as ⏎ and ends the line. Whatever could move the cursor or
//! turn the text around is written out, so that data cannot play tricks on a terminal.

use std::fmt::Write;

use crate::preview::{HistogramBin, PackingSummary, Preview, PreviewSample, PreviewToken, Statistics};

/// How to render.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenderOptions {
    /// ANSI colours, for a terminal.
    pub colour: bool,
    /// Width of rules and bars, in columns.
    pub width: usize,
    /// Longer samples show only their first and last tokens, this many together; 0 shows all.
    pub max_tokens: usize,
    /// Draws a thin line between tokens.
    pub show_boundaries: bool,
}

impl Default for RenderOptions {
    fn default() -> Self {
        Self { colour: false, width: 80, max_tokens: 0, show_boundaries: false }
    }
}

impl Preview {
    /// Samples, summary and warnings as text.
    pub fn render(&self, options: &RenderOptions) -> String {
        let mut page = Page { out: String::new(), options: *options, style: Style::Plain };
        if !self.samples.is_empty() {
            page.legend();
        }
        for (idx, sample) in self.samples.iter().enumerate() {
            page.sample(idx, self.samples.len(), sample);
        }
        let learns_tokens = self.samples.iter().all(|sample| sample.target.is_none());
        page.summary(&self.statistics, &self.packing, learns_tokens);
        for note in &self.notes {
            page.span(Style::Faint, "· ");
            page.printable(Style::Plain, note);
            page.line();
        }
        for warning in &self.warnings {
            page.span(Style::Warning, "! ");
            page.span(Style::Plain, warning);
            page.line();
        }
        page.out
    }
}

/// What a piece of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Heading,
    Faint,
    Warning,
    Prompt,
    PromptSpecial,
    Learned,
    LearnedSpecial,
    /// Marks that are not in the data, within a prompt or an answer.
    PromptMark,
    LearnedMark,
    Bar,
    CutBar,
}

impl Style {
    fn ansi(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Heading => "\x1b[1m",
            Self::Faint => "\x1b[2m",
            Self::Warning => "\x1b[1;33m",
            Self::Prompt => "\x1b[2m",
            Self::PromptSpecial => "\x1b[35m",
            // Light on dark green: readable on dark and on light terminals.
            Self::Learned => "\x1b[1;38;5;231;48;5;22m",
            Self::LearnedSpecial => "\x1b[1;38;5;219;48;5;22m",
            Self::PromptMark => "\x1b[2;36m",
            Self::LearnedMark => "\x1b[38;5;114;48;5;22m",
            Self::Bar => "\x1b[32m",
            Self::CutBar => "\x1b[33m",
        }
    }

    fn is_learned(self) -> bool {
        matches!(self, Self::Learned | Self::LearnedSpecial | Self::LearnedMark)
    }
}

struct Page {
    out: String,
    options: RenderOptions,
    style: Style,
}

impl Page {
    /// Text in a style; the text must be free of line ends and control characters.
    fn span(&mut self, style: Style, text: &str) {
        if text.is_empty() {
            return;
        }
        self.switch(style);
        self.out.push_str(text);
    }

    fn switch(&mut self, style: Style) {
        if style == self.style {
            return;
        }
        if self.options.colour {
            if !self.style.ansi().is_empty() {
                self.out.push_str("\x1b[0m");
            }
            self.out.push_str(style.ansi());
        } else if style.is_learned() != self.style.is_learned() {
            self.out.push_str(if style.is_learned() { "⟦" } else { "⟧" });
        }
        self.style = style;
    }

    fn line(&mut self) {
        self.switch(Style::Plain);
        self.out.push('\n');
    }

    fn legend(&mut self) {
        self.span(Style::Faint, "legend: ");
        self.span(Style::Prompt, "context");
        self.span(Style::Plain, "  ");
        self.span(Style::Learned, "learned");
        self.span(Style::Plain, "  ");
        let special = if self.options.colour { "special token" } else { "‹special token›" };
        self.span(Style::PromptSpecial, special);
        self.span(Style::Plain, "  ");
        self.span(Style::PromptMark, "⏎");
        self.span(Style::Faint, " line end");
        if self.options.show_boundaries {
            self.span(Style::Plain, "  ");
            self.span(Style::PromptMark, "│");
            self.span(Style::Faint, " between tokens");
        }
        self.line();
        self.line();
    }

    fn sample(&mut self, idx: usize, n_samples: usize, sample: &PreviewSample) {
        let n_tokens = sample.tokens.len();
        let title = format!("sample {} of {n_samples}", idx + 1);
        let share = percent(sample.n_trained, n_tokens);
        let mut facts = format!(" · row {} · {}", sample.row, count(n_tokens, "token"));
        if sample.target.is_none() {
            let _ = write!(facts, ", {} learned ({share})", grouped(sample.n_trained));
        }
        let n_cut = sample.n_prompt_cut + sample.n_answer_cut;
        if n_cut > 0 {
            let _ = write!(facts, " · ✂ {} cut", grouped(n_cut));
        }
        let used = 3 + title.chars().count() + facts.chars().count() + 1;
        let rule = "━".repeat(self.options.width.saturating_sub(used));
        self.span(Style::Faint, "━━ ");
        self.span(Style::Heading, &title);
        self.span(Style::Plain, &facts);
        self.span(Style::Faint, &format!(" {rule}"));
        self.line();

        match self.hidden_range(n_tokens) {
            None => self.tokens(&sample.tokens),
            Some((start, end)) => {
                let (first, rest) = sample.tokens.split_at(start);
                let (hidden, last) = rest.split_at(end - start);
                let n_learned = hidden.iter().filter(|token| token.trained).count();
                self.tokens(first);
                self.line();
                let text = format!(
                    "⋯ {} not shown, {} of them learned ⋯",
                    count(hidden.len(), "token"),
                    grouped(n_learned)
                );
                self.span(Style::Faint, &text);
                self.line();
                self.tokens(last);
            }
        }
        self.switch(Style::Plain);
        if !self.out.ends_with('\n') {
            self.line();
        }
        if let Some(target) = &sample.target {
            self.span(Style::Heading, "target: ");
            self.printable(Style::LearnedSpecial, &target.text);
            let class = target.class.map(|class| class.to_string()).filter(|class| *class != target.text);
            self.span(Style::Plain, &class.map(|class| format!(" (class {class})")).unwrap_or_default());
            self.line();
        }
        for warning in &sample.warnings {
            self.span(Style::Warning, "! ");
            self.span(Style::Plain, warning);
            self.line();
        }
        self.line();
    }

    /// The tokens to leave out in the middle.
    fn hidden_range(&self, n_tokens: usize) -> Option<(usize, usize)> {
        let max_tokens = self.options.max_tokens;
        if max_tokens == 0 || n_tokens <= max_tokens {
            return None;
        }
        // The start shows the form, the end what is learned: two thirds for the end.
        let n_first = max_tokens / 3;
        Some((n_first, n_tokens - (max_tokens - n_first)))
    }

    fn tokens(&mut self, tokens: &[PreviewToken]) {
        let mut start = 0;
        while let Some(first) = tokens.get(start) {
            // Tokens of a kind are decoded together: several may make one character.
            let alone = first.special || self.options.show_boundaries;
            let same = |token: &&PreviewToken| !alone && !token.special && token.trained == first.trained;
            let n = 1 + tokens.get(start + 1..).unwrap_or_default().iter().take_while(same).count();
            let run = tokens.get(start..start + n).unwrap_or_default();
            self.run(run, first.trained, first.special);
            start += n;
            if self.options.show_boundaries && start < tokens.len() && !self.out.ends_with('\n') {
                let both = first.trained && tokens.get(start).is_some_and(|next| next.trained);
                self.span(if both { Style::LearnedMark } else { Style::PromptMark }, "│");
            }
        }
    }

    fn run(&mut self, run: &[PreviewToken], trained: bool, special: bool) {
        let (text_style, mark_style) = match (trained, special) {
            (false, false) => (Style::Prompt, Style::PromptMark),
            (false, true) => (Style::PromptSpecial, Style::PromptMark),
            (true, false) => (Style::Learned, Style::LearnedMark),
            (true, true) => (Style::LearnedSpecial, Style::LearnedMark),
        };
        let bytes: Vec<u8> = run.iter().flat_map(|token| token.bytes.iter().copied()).collect();
        let is_bracketed = special && !self.options.colour;
        if is_bracketed {
            self.span(text_style, "‹");
        }
        self.readable(text_style, mark_style, &bytes);
        if is_bracketed {
            self.span(text_style, "›");
        }
    }

    /// A text from outside on one line.
    fn printable(&mut self, style: Style, text: &str) {
        self.readable(style, style, text.replace('\n', "⏎").as_bytes());
    }

    /// Bytes from outside; what could move the cursor is written out in `mark_style`.
    fn readable(&mut self, text_style: Style, mark_style: Style, bytes: &[u8]) {
        let mut mark = String::new();
        for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                mark.clear();
                match c {
                    '\n' => mark.push('⏎'),
                    '\t' => mark.push('⇥'),
                    '\0'..='\u{1f}' => mark.extend(char::from_u32(0x2400 + u32::from(c))),
                    '\u{7f}' => mark.push('␡'),
                    // C1 controls, and characters that reorder the text around them.
                    '\u{80}'..='\u{9f}'
                    | '\u{200e}'
                    | '\u{200f}'
                    | '\u{202a}'..='\u{202e}'
                    | '\u{2066}'..='\u{2069}' => {
                        let _ = write!(mark, "<U+{:04X}>", u32::from(c));
                    }
                    _ => {
                        self.switch(text_style);
                        self.out.push(c);
                        continue;
                    }
                }
                self.span(mark_style, &mark);
                if c == '\n' {
                    // Backgrounds must not run on to the margin, and each line shall be readable alone.
                    self.line();
                }
            }
            for byte in chunk.invalid() {
                self.span(mark_style, &format!("<0x{byte:02X}>"));
            }
        }
    }

    fn summary(&mut self, statistics: &Statistics, packing: &PackingSummary, learns_tokens: bool) {
        let rule = "━".repeat(self.options.width.saturating_sub(15));
        self.span(Style::Faint, "━━ ");
        self.span(Style::Heading, "all samples");
        self.span(Style::Faint, &format!(" {rule}"));
        self.line();
        let mut text = format!(
            "{} from {} · {}",
            count(statistics.n_samples, "sample"),
            count(statistics.n_conversations, "conversation"),
            count(statistics.n_tokens, "token"),
        );
        if learns_tokens {
            let share = percent(statistics.n_trained_tokens, statistics.n_tokens);
            let _ = write!(text, ", {} learned ({share})", grouped(statistics.n_trained_tokens));
        }
        self.span(Style::Plain, &text);
        self.line();
        self.span(Style::Plain, &packing_text(packing, statistics.max_length));
        self.line();
        if statistics.histogram.is_empty() {
            return;
        }
        self.line();
        let text = format!(
            "tokens of a sample: shortest {}, median {}, 90 % up to {}, 99 % up to {}, longest {}",
            grouped(statistics.shortest),
            grouped(statistics.median),
            grouped(statistics.percentile_90),
            grouped(statistics.percentile_99),
            grouped(statistics.longest),
        );
        self.span(Style::Plain, &text);
        self.line();
        self.histogram(&statistics.histogram, statistics.max_length);
        self.line();
    }

    fn histogram(&mut self, bins: &[HistogramBin], max_length: usize) {
        let label = |bin: &HistogramBin| match bin.from == bin.to {
            true => grouped(bin.from),
            false => format!("{}–{}", grouped(bin.from), grouped(bin.to)),
        };
        let width_of = |text: &str| text.chars().count();
        let label_width = bins.iter().map(|bin| width_of(&label(bin))).max().unwrap_or(0);
        let most = bins.iter().map(|bin| bin.n_samples).max().unwrap_or(1).max(1);
        let count_width = width_of(&grouped(most));
        let longest_bar = self.options.width.saturating_sub(label_width + count_width + 16).clamp(10, 60);
        for bin in bins {
            let label = label(bin);
            let margin = " ".repeat(label_width - width_of(&label) + 2);
            self.span(Style::Faint, &format!("{margin}{label} "));
            // Eighths of a column; whatever is there shows as something.
            let eighths = (bin.n_samples * longest_bar * 8).div_ceil(most);
            let mut bar = "█".repeat(eighths / 8);
            bar.extend(['▏', '▎', '▍', '▌', '▋', '▊', '▉'].get((eighths % 8).wrapping_sub(1)));
            self.span(if bin.from > max_length { Style::CutBar } else { Style::Bar }, &bar);
            self.span(Style::Plain, &format!(" {}", grouped(bin.n_samples)));
            if bin.n_cut > 0 {
                self.span(Style::Warning, &format!(" ✂ {} cut", grouped(bin.n_cut)));
            }
            self.line();
        }
    }
}

fn packing_text(packing: &PackingSummary, max_length: usize) -> String {
    let unit = match packing.filled {
        Some(filled) => {
            let rows = count(packing.batch_size, "row");
            format!("up to {rows} of {}, {:.1} % filled", count(max_length, "token"), filled * 100.0)
        }
        None => format!("up to {}", count(packing.batch_size, "sample")),
    };
    let tokens = match packing.fewest_tokens == packing.most_tokens {
        true => count(packing.most_tokens, "token"),
        false => format!("{} to {}", grouped(packing.fewest_tokens), count(packing.most_tokens, "token")),
    };
    let batches = match packing.n_micro_batches {
        1 => "1 micro-batch".to_owned(),
        n => format!("{} micro-batches", grouped(n)),
    };
    format!("packing {}: {batches} an epoch, {unit}; {tokens} each", packing.packing)
}

fn percent(part: usize, whole: usize) -> String {
    if whole == 0 { "0 %".to_owned() } else { format!("{:.0} %", 100.0 * part as f64 / whole as f64) }
}

/// "1 token", "2,000 tokens".
pub(crate) fn count(n: usize, noun: &str) -> String {
    format!("{} {noun}{}", grouped(n), if n == 1 { "" } else { "s" })
}

/// A count with a comma before every three digits.
pub(crate) fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
