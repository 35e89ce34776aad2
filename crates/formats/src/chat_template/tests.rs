//! What templates of well-known models need, and what they must refuse.

use super::*;

fn chat(turns: &[(&str, &str)]) -> Vec<ChatMessage> {
    turns.iter().map(|(role, content)| ChatMessage::new(*role, *content)).collect()
}

fn render(source: &str, turns: &[(&str, &str)]) -> String {
    ChatTemplate::new(source.into()).render(&chat(turns), true, "<s>", "</s>").unwrap()
}

fn reason(source: &str, turns: &[(&str, &str)]) -> String {
    match ChatTemplate::new(source.into()).render(&chat(turns), true, "<s>", "</s>") {
        Err(FormatError::Template { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn blocks_are_trimmed_like_jinja_does() {
    let source = "\n  {% for m in messages %}\n  {{ m.role }}:{{ m['content'] }}\n  {% endfor %}\nend\n";
    assert_eq!(render(source, &[("user", "a"), ("assistant", "b")]), "\n  user:a\n  assistant:b\nend");
}

#[test]
fn python_methods_slices_and_loop_controls_work() {
    let source = "{% for m in messages[1:] %}{% if m.content.startswith('x') %}{% continue %}{% endif %}\
                  {{ loop.index0 }}{{ m.content.strip().upper() }}{{ m.get('name', '-') }}\
                  {% if 'name' not in m and loop.last %}!{% break %}{% endif %}{% endfor %}";
    let turns = [("system", "s"), ("user", "x1"), ("user", " a "), ("assistant", "b\n")];
    assert_eq!(render(source, &turns), "1A-2B-!");
}

#[test]
fn namespaces_macros_and_globals_work() {
    let source = "{%- macro turn(m) -%}[{{ m.role }}|{{ m.content | trim }}]{%- endmacro -%}\
                  {%- set ns = namespace(n=0) -%}{{ bos_token }}\
                  {%- for m in messages %}{% set ns.n = ns.n + 1 %}{{ turn(m) }}{% endfor -%}\
                  {{ ns.n }}{{ eos_token }}{{ tools is none }}{{ documents is defined }}{{ nothing is defined }}\
                  {{ none }}";
    assert_eq!(render(source, &[("user", " hi ")]), "<s>[user|hi]1</s>TrueTrueFalseNone");
}

#[test]
fn raised_exceptions_surface_as_their_message() {
    let source = "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}\
                  {{ raise_exception('Conversation roles must alternate') }}{% endif %}{% endfor %}ok";
    assert_eq!(reason(source, &[("user", "a"), ("user", "b")]), "Conversation roles must alternate");
    assert_eq!(render(source, &[("user", "a"), ("assistant", "b")]), "ok");
}

#[test]
fn broken_templates_say_where() {
    let template = ChatTemplate::new("line one\n{% for %}".into());
    let error = template.check().unwrap_err().to_string();
    assert!(error.contains("line 2"), "{error}");
    assert!(reason("{{ messages[0].nothing.at_all }}", &[("user", "a")]).contains("line 1"));
}

#[test]
fn endless_templates_end() {
    let source = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a * b }}{% endfor %}{% endfor %}";
    assert!(reason(source, &[]).contains("fuel"), "{}", reason(source, &[]));
}

#[test]
fn generation_tags_are_transparent() {
    let with = "{% for m in messages %}{%- generation -%}  {{ m.content }}{% endgeneration %}\n{% endfor %}";
    let without = "{% for m in messages %}{%- if true -%}  {{ m.content }}{% endif %}\n{% endfor %}";
    let turns = [("user", "a"), ("assistant", "b")];
    assert_eq!(render(with, &turns), render(without, &turns));
    assert_eq!(render(with, &turns), "ab");
    assert_eq!(
        generation_tags::replace("{% set generation = 1 %}{% open"),
        "{% set generation = 1 %}{% open"
    );
}

#[test]
fn nothing_is_no_list_and_a_text_is_one() {
    let source = "{{ tools is iterable }} {{ tools is sequence }} {{ 'a' is iterable }} {{ 'a' is sequence }} \
                  {{ [] is iterable }} {{ {'a': 1} is sequence }} {{ 1 is iterable }} {{ missing is iterable }}";
    assert_eq!(render(source, &[]), "False False True True True True False True");
}

#[test]
fn generation_tags_mark_spans() {
    let source = "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' %}\n    {%- generation %}\n{{ m.content }};\n\
                  {%- endgeneration %}\n{% else %}{{ m.content }}{% endif %}{% endfor %}";
    let template = ChatTemplate::new(source.to_owned());
    let messages = serde_json::json!([
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "bé"}, {"role": "assistant", "content": "c"}
    ]);
    let rendered = template.render_spans(&messages, false, &Map::new()).unwrap();
    assert_eq!(rendered.text, "[user]a[assistant]bé;[assistant]c;");
    let marked: Vec<&str> =
        rendered.generated.unwrap().into_iter().map(|span| &rendered.text[span]).collect();
    assert_eq!(marked, ["bé;", "c;"]);
    let plain = ChatTemplate::new("{{ messages[0].content }}".to_owned());
    assert_eq!(plain.render_spans(&messages, false, &Map::new()).unwrap().generated, None);
}

#[test]
fn dates_come_from_the_clock_that_was_set() {
    let template = ChatTemplate::new("{{ strftime_now('%d %b %Y') }}".into()).with_clock(1_721_952_000);
    assert!(template.uses_clock());
    assert_eq!(template.render(&[], false, "", "").unwrap(), "26 Jul 2024");
    let today = ChatTemplate::new("{{ strftime_now('%Y') }}".into()).render(&[], false, "", "").unwrap();
    assert!(today.parse::<u32>().unwrap() >= 2024);
}

#[test]
fn json_looks_like_pythons() {
    // json.dumps([1, 1.5, True, None, "é\"\n<&'", {"b": [], "a": {}}], ensure_ascii=False)
    let value = r#"[1, 1.5, true, none, "é\"\n<&'", {"b": [], "a": {}}]"#;
    let flat = r#"[1, 1.5, true, null, "é\"\n<&'", {"b": [], "a": {}}]"#;
    assert_eq!(render(&format!("{{{{ {value} | tojson }}}}"), &[]), flat);
    // json.dumps({"b": [1, 2], "a": {}}, indent=2, sort_keys=True)
    let indented = "{\n  \"a\": {},\n  \"b\": [\n    1,\n    2\n  ]\n}";
    assert_eq!(render("{{ {'b': [1, 2], 'a': {}} | tojson(indent=2, sort_keys=true) }}", &[]), indented);
    assert_eq!(render("{{ {'b': [1, 2]} | tojson(separators=(',', ':')) }}", &[]), "{\"b\":[1,2]}");
    assert_eq!(render("{{ 'é😀' | tojson(ensure_ascii=true) }}", &[]), r#""\u00e9\ud83d\ude00""#);
    assert_eq!(render("{{ messages[0] | tojson }}", &[("user", "x")]), r#"{"role": "user", "content": "x"}"#);
    assert!(reason("{{ nothing | tojson }}", &[]).contains("undefined"));
}

#[test]
fn marker_style_templates_alternate_strictly() {
    // The form exported for marker-trained models, with a system column.
    let source = "{% if messages[0]['role'] == 'system' %}{{ '<|system|>' + messages[0]['content'] | trim + eos_token }}\
        {% set loop_messages = messages[1:] %}{% else %}{% set loop_messages = messages %}{% endif %}\
        {% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
        {{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}\
        {% if message['role'] == 'user' %}{{ '<|prompt|>' + message['content'] | trim + eos_token }}\
        {% elif message['role'] == 'assistant' %}{{ '<|answer|>' + message['content'] | trim + eos_token }}{% endif %}\
        {% endfor %}{% if add_generation_prompt %}{{ '<|answer|>' }}{% endif %}";
    let turns =
        [("system", "[system prompt]"), ("user", "[user prompt]"), ("assistant", "[assistant response]")];
    let text = "<|system|>[system prompt]</s><|prompt|>[user prompt]</s><|answer|>[assistant response]</s>";
    assert_eq!(render(source, &turns), format!("{text}<|answer|>"));
    assert!(reason(source, &[("user", "a"), ("user", "b")]).starts_with("Conversation roles must alternate"));
}

/// The texts and errors that transformers gives for templates of many models' styles.
#[test]
fn renders_what_transformers_renders() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/templates");
    let mut n_cases = 0;
    let mut failures = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let case: serde_json::Value =
            serde_json::from_slice(&std::fs::read(entry.unwrap().path()).unwrap()).unwrap();
        let mut variables = case["kwargs"].as_object().cloned().unwrap_or_default();
        for name in ["bos_token", "eos_token", "tools"] {
            if let Some(value) = case.get(name).filter(|value| !value.is_null()) {
                variables.insert(name.into(), value.clone());
            }
        }
        let mut template = ChatTemplate::new(case["template"].as_str().unwrap().into());
        if let Some(now) = case.get("now") {
            assert_eq!(now, "2024-03-09T07:05:04");
            template = template.with_clock(1_709_967_904);
        }
        let prompt = case["add_generation_prompt"].as_bool().unwrap();
        let got = template.render_json(&case["messages"], prompt, &variables).map_err(|error| match error {
            FormatError::Template { reason, .. } => reason,
            other => other.to_string(),
        });
        let expected = match case.get("rendered") {
            Some(text) => Ok(text.as_str().unwrap().to_owned()),
            None => Err(case["error"].as_str().unwrap().to_owned()),
        };
        if got != expected {
            failures.push(format!("{}:\n got {got:?}\nwant {expected:?}", case["name"]));
        }
        n_cases += 1;
    }
    assert!(n_cases >= 29, "only {n_cases} cases found");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
