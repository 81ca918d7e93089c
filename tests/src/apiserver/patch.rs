//! The kinds of patch: merge (RFC 7386), strategic merge, JSON (RFC 6902), and apply.

use serde_json::{Map, Value};

/// RFC 7386.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, change) in patch {
        if change.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), change);
        }
    }
}

/// Strategic merge: lists of objects are merged by `name` (or `uid`), which holds for the lists of
/// pods; other lists are replaced.
pub(super) fn strategic(target: &mut Value, patch: &Value) {
    match (&mut *target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, change) in patch {
                if key.starts_with("$setElementOrder/") || key == "$retainKeys" {
                    continue;
                }
                if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/") {
                    remove_from(target.get_mut(list), change);
                } else if change.is_null() {
                    target.remove(key);
                } else {
                    strategic(target.entry(key.clone()).or_insert(Value::Null), change);
                }
            }
        }
        (Value::Array(target), Value::Array(patch)) if key_of(patch).is_some() => {
            let key = key_of(patch).unwrap_or_default();
            for change in patch {
                let at = target.iter().position(|old| old[key] == change[key]);
                match (at, change["$patch"] == "delete") {
                    (Some(at), true) => drop(target.remove(at)),
                    (Some(at), false) => strategic(&mut target[at], change),
                    (None, true) => {}
                    (None, false) => target.push(change.clone()),
                }
            }
        }
        _ => *target = patch.clone(),
    }
}

fn key_of(list: &[Value]) -> Option<&'static str> {
    let all = |key: &str| !list.is_empty() && list.iter().all(|item| item.get(key).is_some());
    ["name", "uid", "type"].into_iter().find(|key| all(key))
}

fn remove_from(list: Option<&mut Value>, values: &Value) {
    if let (Some(Value::Array(list)), Value::Array(values)) = (list, values) {
        list.retain(|item| !values.contains(item));
    }
}

/// RFC 6902: add, replace, remove, test.
pub(super) fn json(target: &mut Value, patch: &Value) -> Result<(), String> {
    for step in patch.as_array().into_iter().flatten() {
        let path = step["path"].as_str().ok_or("a step without a path")?;
        let (parent, last) = path.rsplit_once('/').ok_or("a path begins with `/`")?;
        let last = last.replace("~1", "/").replace("~0", "~");
        let op = step["op"].as_str().unwrap_or_default();
        if op == "test" {
            if target.pointer(path) != Some(&step["value"]) {
                return Err(format!("testing value {path} failed"));
            }
            continue;
        }
        let missing = || format!("{op} operation does not apply: doc is missing path: {path}");
        let parent = target.pointer_mut(parent).ok_or_else(missing)?;
        match (op, parent) {
            ("remove", Value::Object(map)) => {
                map.remove(&last).ok_or_else(missing)?;
            }
            ("add" | "replace", Value::Object(map)) => {
                if op == "replace" && !map.contains_key(&last) {
                    return Err(missing());
                }
                map.insert(last, step["value"].clone());
            }
            (_, Value::Array(list)) => {
                in_list(list, op, &last, &step["value"]).ok_or_else(missing)?
            }
            _ => return Err(missing()),
        }
    }
    Ok(())
}

fn in_list(list: &mut Vec<Value>, op: &str, last: &str, value: &Value) -> Option<()> {
    let at = if last == "-" { list.len() } else { last.parse().ok()? };
    match op {
        "add" if at <= list.len() => list.insert(at, value.clone()),
        "replace" => *list.get_mut(at)? = value.clone(),
        "remove" if at < list.len() => drop(list.remove(at)),
        _ => return None,
    }
    Some(())
}

/// Applies what a manager wants now, and takes out what it wanted before and no longer does.
pub(super) fn apply(target: &mut Value, before: Option<&Value>, now: &Value) {
    if let Some(before) = before {
        take_out(target, before, now);
    }
    strategic(target, now);
}

fn take_out(target: &mut Value, before: &Value, now: &Value) {
    let (Value::Object(target), Value::Object(before)) = (target, before) else { return };
    for (key, old) in before {
        match (target.get_mut(key), now.get(key)) {
            (Some(_), None) => drop(target.remove(key)),
            (Some(target), Some(now)) => take_out(target, old, now),
            (None, _) => {}
        }
    }
}
