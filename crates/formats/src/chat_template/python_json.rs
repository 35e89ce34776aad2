//! JSON in templates: values out of it, and `tojson` as transformers defines it, which is
//! Python's `json.dumps` with `ensure_ascii=False` and without the HTML escapes of Jinja's own filter.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// Nesting of lists and dictionaries beyond which a value is refused.
const MAX_DEPTH: usize = 100;

/// The filter; keywords `indent`, `separators`, `sort_keys` and `ensure_ascii` as in Python.
pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent = match options.get::<Option<Value>>("indent")? {
        None => None,
        Some(indent) if indent.is_none() => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(indent)?.min(64)),
        }),
    };
    let separators = match options.get::<Option<Value>>("separators")? {
        Some(pair) if !pair.is_none() => {
            let texts: Vec<String> = pair.try_iter()?.map(|part| part.to_string()).collect();
            match <[String; 2]>::try_from(texts) {
                Ok(pair) => pair,
                Err(_) => return Err(invalid("separators needs two texts")),
            }
        }
        _ if indent.is_some() => [",".to_owned(), ": ".to_owned()],
        _ => [", ".to_owned(), ": ".to_owned()],
    };
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let ensure_ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    options.assert_all_used()?;
    let mut writer = Writer { out: String::new(), indent, separators, sort_keys, ensure_ascii };
    writer.value(value, 0)?;
    Ok(Value::from(writer.out))
}

/// The engine's value for a JSON value; the order of keys is kept.
pub(super) fn to_value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(flag) => Value::from(*flag),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), ..) => Value::from(number),
            (None, Some(number), _) => Value::from(number),
            (None, None, number) => Value::from(number.unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => items.iter().map(to_value).collect(),
        serde_json::Value::Object(pairs) => {
            Value::from_pairs(pairs.iter().map(|(key, value)| (key.as_str(), to_value(value))))
        }
    }
}

struct Writer {
    out: String,
    indent: Option<String>,
    separators: [String; 2],
    sort_keys: bool,
    ensure_ascii: bool,
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(invalid("value is nested too deeply"));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&value.to_string()),
            ValueKind::String => self.text(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.container('[', ']', items, depth, |writer, item| writer.value(&item, depth + 1))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort_by_key(Value::to_string);
                }
                self.container('{', '}', keys, depth, |writer, key| {
                    writer.text(&key.to_string());
                    writer.out.push_str(&writer.separators[1].clone());
                    writer.value(&value.get_item(&key)?, depth + 1)
                })?;
            }
            other => return Err(invalid(&format!("a value of kind {other} is not JSON serializable"))),
        }
        Ok(())
    }

    fn container(
        &mut self,
        open: char,
        close: char,
        items: Vec<Value>,
        depth: usize,
        mut write: impl FnMut(&mut Self, Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        let is_empty = items.is_empty();
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.out.push_str(&self.separators[0].clone());
            }
            self.new_line(depth + 1);
            write(self, item)?;
        }
        if !is_empty {
            self.new_line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            let margin = indent.repeat(depth);
            self.out.push('\n');
            self.out.push_str(&margin);
        }
    }

    fn text(&mut self, text: &str) {
        // serde_json and Python escape the same characters: quotes, backslash and controls below 0x20.
        let quoted = serde_json::Value::from(text).to_string();
        if !self.ensure_ascii {
            self.out.push_str(&quoted);
            return;
        }
        let mut units = [0; 2];
        for c in quoted.chars() {
            if c.is_ascii() && c != '\u{7f}' {
                self.out.push(c);
            } else {
                for unit in c.encode_utf16(&mut units) {
                    self.out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
}

fn invalid(reason: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson: {reason}"))
}
