//! placeholder
use std::borrow::Cow;
#[derive(Clone, Debug, Default)]
pub struct SecretFilter;
impl SecretFilter {
    pub fn clean<'a>(&self, text: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(text)
    }
    pub fn find(&self, _text: &str) -> Option<&'static str> {
        None
    }
}
