//! `labelSelector` and `fieldSelector` of a request.

use serde_json::Value;

/// What an object must be to be seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    labels: Vec<Label>,
    /// (path, equal?, value).
    fields: Vec<(String, bool, String)>,
}

#[derive(Clone, Debug)]
enum Label {
    Exists(String),
    Missing(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
}

impl Selector {
    /// Reads both. `fields_known` are the fields this resource can be selected by.
    pub(super) fn read(labels: &str, fields: &str, fields_known: &[&str]) -> Result<Self, String> {
        let labels = terms(labels).iter().map(|term| label(term)).collect::<Result<_, _>>()?;
        let fields: Vec<_> =
            terms(fields).into_iter().map(|term| field(&term)).collect::<Result<_, _>>()?;
        if let Some((path, ..)) =
            fields.iter().find(|(path, ..)| !fields_known.contains(&path.as_str()))
        {
            return Err(format!("field label not supported: {path}"));
        }
        Ok(Self { labels, fields })
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        let own = |key: &str| object["metadata"]["labels"][key].as_str();
        let label = |label: &Label| match label {
            Label::Exists(key) => own(key).is_some(),
            Label::Missing(key) => own(key).is_none(),
            Label::In(key, values) => {
                own(key).is_some_and(|own| values.iter().any(|value| value == own))
            }
            Label::NotIn(key, values) => {
                own(key).is_none_or(|own| values.iter().all(|value| value != own))
            }
        };
        let field = |(path, equal, value): &(String, bool, String)| {
            let pointer = format!("/{}", path.replace('.', "/"));
            let own = object.pointer(&pointer).and_then(Value::as_str).unwrap_or_default();
            (own == value) == *equal
        };
        self.labels.iter().all(label) && self.fields.iter().all(field)
    }
}

/// Splits at commas outside of parentheses.
fn terms(text: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut depth = 0_i32;
    for character in text.chars() {
        depth += i32::from(character == '(') - i32::from(character == ')');
        match (character, terms.last_mut()) {
            (',', _) if depth == 0 => terms.push(String::new()),
            (_, Some(term)) => term.push(character),
            (_, None) => {}
        }
    }
    terms.retain(|term| !term.trim().is_empty());
    terms
}

fn label(term: &str) -> Result<Label, String> {
    let term = term.trim();
    let set = |values: &str| {
        let inner = values.trim().strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        let inner = inner.ok_or_else(|| format!("unable to parse requirement: {term}"))?;
        Ok::<_, String>(inner.split(',').map(|value| value.trim().to_owned()).collect())
    };
    if let Some((key, values)) = term.split_once(" notin ") {
        return Ok(Label::NotIn(key.trim().to_owned(), set(values)?));
    }
    if let Some((key, values)) = term.split_once(" in ") {
        return Ok(Label::In(key.trim().to_owned(), set(values)?));
    }
    if let Some((key, value)) = term.split_once("!=") {
        return Ok(Label::NotIn(key.trim().to_owned(), vec![value.trim().to_owned()]));
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Ok(Label::In(key.trim().to_owned(), vec![value.trim().to_owned()]));
    }
    Ok(match term.strip_prefix('!') {
        Some(key) => Label::Missing(key.trim().to_owned()),
        None => Label::Exists(term.to_owned()),
    })
}

fn field(term: &str) -> Result<(String, bool, String), String> {
    let split = term.split_once("!=").map(|(path, value)| (path, false, value));
    let split = split.or_else(|| term.split_once("==").map(|(path, value)| (path, true, value)));
    let split = split.or_else(|| term.split_once('=').map(|(path, value)| (path, true, value)));
    let (path, equal, value) =
        split.ok_or_else(|| format!("invalid selector: '{term}'; can't understand '{term}'"))?;
    Ok((path.trim().to_owned(), equal, value.trim().to_owned()))
}
