//! A JSON document that is printed while it comes to be. However it ends, it is one whole document.

use serde::Serialize;
use serde_json::{Map, Value};

use super::Ui;
use super::output::Output;
use crate::exit::Failure;

/// An object that begins with lists, which are printed item by item, a line each.
pub(crate) struct JsonStream<'a> {
    ui: &'a Ui,
    output: Output<'a>,
    /// Lists that were begun.
    list_count: u64,
    /// Items of the last one.
    item_count: u64,
}

impl<'a> JsonStream<'a> {
    /// Nothing is printed yet.
    pub(crate) fn new(ui: &'a Ui, output: Output<'a>) -> Self {
        Self { ui, output, list_count: 0, item_count: 0 }
    }

    /// Ends the list before, and begins one.
    pub(crate) fn list(&mut self, key: &str) -> Result<(), Failure> {
        let start = if self.list_count == 0 { "{" } else { self.end_of_list() };
        // From now on a failure belongs into this document.
        self.ui.note_document();
        self.list_count += 1;
        self.item_count = 0;
        self.output.print(&format!("{start}\n  {}: [", to_json(&key)?))
    }

    /// Adds an item to the list.
    pub(crate) fn item(&mut self, item: &impl Serialize) -> Result<(), Failure> {
        let comma = if self.item_count == 0 { "" } else { "," };
        self.item_count += 1;
        self.output.print(&format!("{comma}\n    {}", to_json(item)?))
    }

    /// Ends the document: with these keys, or with the error if there is one. If nothing was printed yet, the error is
    /// left to be told like others.
    pub(crate) fn end<T>(
        mut self,
        outcome: Result<T, Failure>,
        rest: impl FnOnce(&T) -> Map<String, Value>,
    ) -> Result<T, Failure> {
        match outcome {
            Ok(result) => {
                let text = self.end_text(&rest(&result))?;
                self.output.print(&text)?;
                self.output.flush()?;
                Ok(result)
            }
            Err(failure) => {
                if self.list_count > 0 && !failure.is_broken_pipe {
                    // If that fails, too, the exit code has to do.
                    let _ = self.end_with(&failure);
                }
                Err(failure)
            }
        }
    }

    fn end_with(&mut self, failure: &Failure) -> Result<(), Failure> {
        let text = self.end_text(failure.to_json().as_object().unwrap_or(&Map::new()))?;
        self.output.flush_at_last(&text)
    }

    fn end_text(&self, rest: &Map<String, Value>) -> Result<String, Failure> {
        let mut text = self.end_of_list().to_owned();
        text.truncate(text.len() - 1);
        for (key, value) in rest {
            text.push_str(&format!(",\n  {}: {}", to_json(key)?, to_json(value)?));
        }
        Ok(text + "\n}\n")
    }

    /// Ends the list, with the comma that stands before what follows.
    fn end_of_list(&self) -> &'static str {
        if self.item_count == 0 { "]," } else { "\n  ]," }
    }
}

fn to_json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::new(format!("cannot write JSON: {error}")))
}
