//! What Slack refuses in blocks, messages and views, by its documentation (PLATFORMS, S13). Written from the
//! documentation and not from our code, so that a mistake there is not repeated here.

use std::collections::BTreeSet;

use serde_json::Value;

/// Where blocks are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    Message,
    Modal,
    Home,
}

/// What is wrong with the blocks: the path and the rule, one line each.
pub fn blocks(blocks: &Value, surface: Surface) -> Vec<String> {
    let mut check = Check { wrong: Vec::new(), surface };
    check.blocks(blocks, "blocks");
    check.wrong
}

/// What is wrong with a modal or a home view.
pub fn view(view: &Value) -> Vec<String> {
    let surface = match view["type"].as_str() {
        Some("modal") => Surface::Modal,
        Some("home") => Surface::Home,
        other => return vec![format!("view/type: {other:?} is neither modal nor home")],
    };
    let mut check = Check { wrong: Vec::new(), surface };
    let keys: &[&str] = match surface {
        Surface::Modal => &[
            "type",
            "blocks",
            "title",
            "submit",
            "close",
            "private_metadata",
            "callback_id",
            "external_id",
            "clear_on_close",
            "notify_on_close",
            "submit_disabled",
        ],
        _ => &["type", "blocks", "private_metadata", "callback_id", "external_id"],
    };
    check.keys(view, keys, "view");
    if surface == Surface::Modal {
        check.text(&view["title"], "plain_text", 24, "view/title");
        for name in ["submit", "close"] {
            if !view[name].is_null() {
                check.text(&view[name], "plain_text", 24, &format!("view/{name}"));
            }
        }
        let inputs = view["blocks"].as_array().is_some_and(|all| all.iter().any(|b| b["type"] == "input"));
        if inputs && view["submit"].is_null() {
            check.mind("view/submit", "is required when there is an input block");
        }
    }
    check.string(view, "private_metadata", false, 3000, "view");
    check.string(view, "callback_id", false, 255, "view");
    check.blocks(&view["blocks"], "view/blocks");
    check.wrong
}

struct Check {
    wrong: Vec<String>,
    surface: Surface,
}

/// As Slack counts: characters.
fn chars(text: &str) -> usize {
    text.chars().count()
}

impl Check {
    fn mind(&mut self, at: &str, what: impl std::fmt::Display) {
        self.wrong.push(format!("{at}: {what}"));
    }

    fn keys(&mut self, value: &Value, allowed: &[&str], at: &str) {
        let Some(object) = value.as_object() else { return self.mind(at, "is not an object") };
        for key in object.keys() {
            if !allowed.contains(&key.as_str()) {
                self.mind(at, format!("no property `{key}` is allowed"));
            }
        }
    }

    /// A member that is a string with 1 to `max` characters.
    fn string(&mut self, value: &Value, name: &str, required: bool, max: usize, at: &str) {
        match value.get(name) {
            None | Some(Value::Null) if !required => {}
            Some(Value::String(text)) => {
                let n = chars(text);
                if n > max {
                    self.mind(&format!("{at}/{name}"), format!("{n} characters, {max} at most"));
                }
                if n == 0 && name != "private_metadata" && name != "initial_value" {
                    self.mind(&format!("{at}/{name}"), "is empty");
                }
            }
            other => self.mind(&format!("{at}/{name}"), format!("is not a string: {other:?}")),
        }
    }

    fn boolean(&mut self, value: &Value, name: &str, at: &str) {
        if !matches!(value.get(name), None | Some(Value::Bool(_))) {
            self.mind(&format!("{at}/{name}"), "is not true or false");
        }
    }

    /// A text object. `kind`: plain_text, mrkdwn, or empty for any.
    fn text(&mut self, text: &Value, kind: &str, max: usize, at: &str) {
        let is = text["type"].as_str().unwrap_or("");
        match is {
            "plain_text" => {
                self.keys(text, &["type", "text", "emoji"], at);
                self.boolean(text, "emoji", at);
            }
            "mrkdwn" => {
                self.keys(text, &["type", "text", "verbatim"], at);
                self.boolean(text, "verbatim", at);
            }
            _ => return self.mind(at, format!("is not a text object: {text}")),
        }
        if !kind.is_empty() && is != kind {
            self.mind(at, format!("is {is} and has to be {kind}"));
        }
        self.string(text, "text", true, max, at);
    }

    fn blocks(&mut self, blocks: &Value, at: &str) {
        let Some(all) = blocks.as_array() else { return self.mind(at, "is not an array") };
        let most = if self.surface == Surface::Message { 50 } else { 100 };
        if all.len() > most {
            self.mind(at, format!("{} blocks, {most} at most", all.len()));
        }
        if all.is_empty() && self.surface != Surface::Home {
            self.mind(at, "is empty");
        }
        let mut ids = BTreeSet::new();
        for (i, block) in all.iter().enumerate() {
            let at = format!("{at}[{i}]");
            self.string(block, "block_id", false, 255, &at);
            if let Some(id) = block["block_id"].as_str()
                && !ids.insert(id)
            {
                self.mind(&at, format!("the block_id `{id}` is there twice"));
            }
            self.block(block, &at);
        }
        if self.surface == Surface::Message {
            let total: usize = all.iter().map(texts).sum();
            if total > 13_200 {
                self.mind(at, format!("{total} characters in all, 13200 at most"));
            }
            let markdown = all.iter().filter(|b| b["type"] == "markdown");
            let total: usize = markdown.map(|b| chars(b["text"].as_str().unwrap_or(""))).sum();
            if total > 12_000 {
                self.mind(at, format!("{total} characters of markdown, 12000 at most"));
            }
        }
    }

    fn block(&mut self, block: &Value, at: &str) {
        match block["type"].as_str().unwrap_or("") {
            "header" => {
                self.keys(block, &["type", "block_id", "text"], at);
                self.text(&block["text"], "plain_text", 150, &format!("{at}/text"));
            }
            "divider" => self.keys(block, &["type", "block_id"], at),
            "section" => self.section(block, at),
            "context" => {
                self.keys(block, &["type", "block_id", "elements"], at);
                for (at, element) in self.list(block, "elements", 10, at) {
                    if element["type"] == "image" {
                        self.image(&element, &at);
                    } else {
                        self.text(&element, "", 3000, &at);
                    }
                }
            }
            "actions" => {
                self.keys(block, &["type", "block_id", "elements"], at);
                let mut ids = BTreeSet::new();
                for (at, element) in self.list(block, "elements", 25, at) {
                    let kind = element["type"].as_str().unwrap_or("").to_owned();
                    let fits = kind == "button" || kind == "overflow" || kind.ends_with("picker");
                    if !fits && !kind.ends_with("_select") && kind != "radio_buttons" && kind != "checkboxes" {
                        self.mind(&at, format!("`{kind}` does not belong into actions"));
                    }
                    self.element(&element, &at);
                    if let Some(id) = element["action_id"].as_str()
                        && !ids.insert(id.to_owned())
                    {
                        self.mind(&at, format!("the action_id `{id}` is there twice in this block"));
                    }
                }
            }
            "context_actions" if self.surface == Surface::Message => {
                self.keys(block, &["type", "block_id", "elements"], at);
                for (at, element) in self.list(block, "elements", 5, at) {
                    if !matches!(element["type"].as_str(), Some("feedback_buttons" | "icon_button")) {
                        self.mind(&at, "is neither feedback_buttons nor icon_button");
                    }
                    self.string(&element, "action_id", false, 255, &at);
                }
            }
            "input" => self.input(block, at),
            "rich_text" => self.rich_text(block, at),
            "markdown" if self.surface == Surface::Message => {
                self.keys(block, &["type", "block_id", "text"], at);
                self.string(block, "text", true, 12_000, at);
            }
            "image" => {
                self.keys(block, &["type", "block_id", "image_url", "alt_text", "title"], at);
                self.image(block, at);
            }
            other => self.mind(at, format!("unsupported type: {other:?} in {:?}", self.surface)),
        }
    }

    /// The members of a list with 1 to `max` of them, with their paths.
    fn list(&mut self, value: &Value, name: &str, max: usize, at: &str) -> Vec<(String, Value)> {
        let at = format!("{at}/{name}");
        let Some(all) = value[name].as_array() else {
            self.mind(&at, "is not an array");
            return Vec::new();
        };
        if all.is_empty() || all.len() > max {
            self.mind(&at, format!("{} items, 1 to {max} are allowed", all.len()));
        }
        all.iter().enumerate().map(|(i, item)| (format!("{at}[{i}]"), item.clone())).collect()
    }

    fn image(&mut self, image: &Value, at: &str) {
        self.string(image, "image_url", true, 3000, at);
        self.string(image, "alt_text", true, 2000, at);
    }

    fn section(&mut self, block: &Value, at: &str) {
        self.keys(block, &["type", "block_id", "text", "fields", "accessory", "expand"], at);
        if block["text"].is_null() && block["fields"].is_null() {
            self.mind(at, "has neither text nor fields");
        }
        if !block["text"].is_null() {
            self.text(&block["text"], "", 3000, &format!("{at}/text"));
        }
        if !block["fields"].is_null() {
            for (at, field) in self.list(block, "fields", 10, at) {
                self.text(&field, "", 2000, &at);
            }
        }
        if !block["accessory"].is_null() {
            let at = format!("{at}/accessory");
            if block["accessory"]["type"] == "image" {
                self.image(&block["accessory"], &at);
            } else {
                self.element(&block["accessory"], &at);
            }
        }
    }

    fn input(&mut self, block: &Value, at: &str) {
        self.keys(block, &["type", "block_id", "label", "element", "hint", "optional", "dispatch_action"], at);
        self.text(&block["label"], "plain_text", 2000, &format!("{at}/label"));
        if !block["hint"].is_null() {
            self.text(&block["hint"], "plain_text", 2000, &format!("{at}/hint"));
        }
        self.boolean(block, "optional", at);
        self.boolean(block, "dispatch_action", at);
        if matches!(block["element"]["type"].as_str(), Some("button" | "overflow") | None) {
            self.mind(at, "has no element to put something in");
        }
        self.element(&block["element"], &format!("{at}/element"));
    }

    fn option(&mut self, option: &Value, kind: &str, at: &str) {
        self.keys(option, &["text", "value", "description", "url"], at);
        let marked = matches!(kind, "radio_buttons" | "checkboxes");
        self.text(&option["text"], if marked { "" } else { "plain_text" }, 75, &format!("{at}/text"));
        self.string(option, "value", true, if kind == "overflow" { 75 } else { 150 }, at);
        if !option["description"].is_null() {
            let kind = if marked { "" } else { "plain_text" };
            self.text(&option["description"], kind, 75, &format!("{at}/description"));
        }
        if kind != "overflow" && !option["url"].is_null() {
            self.mind(at, "only options of an overflow menu have a url");
        }
        self.string(option, "url", false, 3000, at);
    }

    fn element(&mut self, element: &Value, at: &str) {
        let kind = element["type"].as_str().unwrap_or("");
        self.string(element, "action_id", false, 255, at);
        if !element["confirm"].is_null() {
            self.confirm(&element["confirm"], &format!("{at}/confirm"));
        }
        if !element["placeholder"].is_null() {
            self.text(&element["placeholder"], "plain_text", 150, &format!("{at}/placeholder"));
        }
        self.boolean(element, "focus_on_load", at);
        match kind {
            "button" => {
                let keys = ["type", "text", "action_id", "value", "url", "style", "confirm", "accessibility_label"];
                self.keys(element, &keys, at);
                self.text(&element["text"], "plain_text", 75, &format!("{at}/text"));
                self.string(element, "value", false, 2000, at);
                self.string(element, "url", false, 3000, at);
                self.string(element, "accessibility_label", false, 75, at);
                if !matches!(element["style"].as_str(), None | Some("primary" | "danger")) {
                    self.mind(at, format!("the style {} does not exist", element["style"]));
                }
            }
            "static_select" | "multi_static_select" | "overflow" | "radio_buttons" | "checkboxes" => {
                let keys = [
                    "type",
                    "action_id",
                    "placeholder",
                    "options",
                    "option_groups",
                    "initial_option",
                    "initial_options",
                    "confirm",
                    "max_selected_items",
                    "focus_on_load",
                ];
                self.keys(element, &keys, at);
                let most = match kind {
                    "overflow" => 5,
                    "radio_buttons" | "checkboxes" => 10,
                    _ => 100,
                };
                let options = self.list(element, "options", most, at);
                for (at, option) in &options {
                    self.option(option, kind, at);
                }
                let mut values = BTreeSet::new();
                for (at, option) in &options {
                    if !values.insert(option["value"].as_str()) {
                        self.mind(at, "two options have this value");
                    }
                }
                let several = matches!(kind, "multi_static_select" | "checkboxes");
                let chosen: Vec<&Value> = if several {
                    element["initial_options"].as_array().into_iter().flatten().collect()
                } else {
                    element.get("initial_option").into_iter().collect()
                };
                for chosen in chosen {
                    if !options.iter().any(|(_, option)| option == chosen) {
                        self.mind(at, format!("the initial option is none of the options: {chosen}"));
                    }
                }
                if element["initial_options"].as_array().is_some_and(Vec::is_empty) {
                    self.mind(at, "initial_options is empty");
                }
            }
            "plain_text_input" => {
                let keys = [
                    "type",
                    "action_id",
                    "placeholder",
                    "initial_value",
                    "multiline",
                    "min_length",
                    "max_length",
                    "dispatch_action_config",
                    "focus_on_load",
                ];
                self.keys(element, &keys, at);
                self.boolean(element, "multiline", at);
                let most = element["max_length"].as_u64().unwrap_or(3000);
                if most == 0 || most > 3000 {
                    self.mind(at, format!("max_length is {most}, 1 to 3000 is allowed"));
                }
                self.string(element, "initial_value", false, most as usize, at);
            }
            "number_input" => {
                let keys = [
                    "type",
                    "action_id",
                    "placeholder",
                    "initial_value",
                    "is_decimal_allowed",
                    "min_value",
                    "max_value",
                    "dispatch_action_config",
                    "focus_on_load",
                ];
                self.keys(element, &keys, at);
                if !element["is_decimal_allowed"].is_boolean() {
                    self.mind(at, "is_decimal_allowed is required");
                }
                for name in ["initial_value", "min_value", "max_value"] {
                    if !element[name].is_null()
                        && element[name].as_str().and_then(|n| n.parse::<f64>().ok()).is_none_or(|n| !n.is_finite())
                    {
                        self.mind(at, format!("{name} is not a number in a string: {}", element[name]));
                    }
                }
            }
            "users_select"
            | "conversations_select"
            | "channels_select"
            | "multi_users_select"
            | "datepicker"
            | "timepicker"
            | "datetimepicker"
            | "url_text_input"
            | "email_text_input" => {}
            other => self.mind(at, format!("unsupported element: {other:?}")),
        }
        let interactive = !matches!(kind, "");
        if interactive && self.surface == Surface::Message && element["action_id"].is_null() {
            self.mind(at, "has no action_id: nobody could tell what was pressed");
        }
    }

    fn confirm(&mut self, confirm: &Value, at: &str) {
        self.keys(confirm, &["title", "text", "confirm", "deny", "style"], at);
        for (name, kind, max) in
            [("title", "plain_text", 100), ("text", "", 300), ("confirm", "plain_text", 30), ("deny", "plain_text", 30)]
        {
            self.text(&confirm[name], kind, max, &format!("{at}/{name}"));
        }
        if !matches!(confirm["style"].as_str(), None | Some("primary" | "danger")) {
            self.mind(at, format!("the style {} does not exist", confirm["style"]));
        }
    }

    fn rich_text(&mut self, block: &Value, at: &str) {
        self.keys(block, &["type", "block_id", "elements"], at);
        for (at, element) in self.list(block, "elements", usize::MAX, at) {
            self.rich_element(&element, &at);
        }
    }

    fn rich_element(&mut self, element: &Value, at: &str) {
        match element["type"].as_str().unwrap_or("") {
            "rich_text_section" => self.keys(element, &["type", "elements"], at),
            "rich_text_preformatted" => self.keys(element, &["type", "elements", "border", "language"], at),
            "rich_text_quote" => self.keys(element, &["type", "elements", "border"], at),
            "rich_text_list" => {
                self.keys(element, &["type", "elements", "style", "indent", "offset", "border"], at);
                if !matches!(element["style"].as_str(), Some("bullet" | "ordered")) {
                    self.mind(at, "style is neither bullet nor ordered");
                }
                for (at, item) in self.list(element, "elements", usize::MAX, at) {
                    if item["type"] == "rich_text_section" {
                        self.rich_element(&item, &at);
                    } else {
                        self.mind(&at, "is not a rich_text_section");
                    }
                }
                return;
            }
            other => return self.mind(at, format!("unsupported rich text: {other:?}")),
        }
        for (at, item) in self.list(element, "elements", usize::MAX, at) {
            match item["type"].as_str().unwrap_or("") {
                "text" => {
                    self.keys(&item, &["type", "text", "style"], &at);
                    self.string(&item, "text", true, usize::MAX, &at);
                }
                "link" => {
                    self.keys(&item, &["type", "url", "text", "style", "unsafe"], &at);
                    self.string(&item, "url", true, 3000, &at);
                }
                "user" => self.string(&item, "user_id", true, 255, &at),
                "usergroup" => self.string(&item, "usergroup_id", true, 255, &at),
                "channel" => self.string(&item, "channel_id", true, 255, &at),
                "emoji" => self.string(&item, "name", true, 255, &at),
                "date" => self.string(&item, "format", true, 255, &at),
                other => self.mind(&at, format!("unsupported rich text element: {other:?}")),
            }
        }
    }
}

/// All characters that people read in a value.
fn texts(value: &Value) -> usize {
    match value {
        Value::Object(object) => object
            .iter()
            .map(|(key, value)| match value {
                Value::String(text) if key == "text" => chars(text),
                Value::String(_) => 0,
                _ => texts(value),
            })
            .sum(),
        Value::Array(all) => all.iter().map(texts).sum(),
        _ => 0,
    }
}
