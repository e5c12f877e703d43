//! A listing of a bucket, page by page: it may be interrupted after any page, and begin again some pages before its end.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::client::From;
use super::xml::Page;
use crate::probe::backup::source::Look;
use crate::probe::backup::source::selection::{Entry, Found, Paused, Rules, Selection};
use crate::probe::{Failure, Reason};

/// So many pages are listed again to see what is new, where new objects come last.
const TAIL: usize = 3;
/// So many pages without any object in a row are too many.
const MOST_EMPTY: u32 = 100;

/// A place between two objects of a listing, and all that came before it.
#[derive(Clone, Default)]
pub struct Mark {
    /// The last key before it; `None` at the beginning.
    after: Option<String>,
    judged: Paused,
    /// The time of the newest object before it that matters, in unix seconds.
    newest: Option<f64>,
    /// How many pages came before it.
    pub pages: u64,
    /// How many objects came before it.
    pub objects: u64,
}

/// A listing that goes on.
pub struct Walk {
    here: Mark,
    /// What the server gave for the next page. Good for a while only.
    token: Option<String>,
    /// The beginnings of the last pages, the newest last.
    marks: VecDeque<Mark>,
    is_ordered: bool,
    empty: u32,
    /// When the last page came.
    touched: Instant,
}

/// What is left of a listing that is complete.
pub struct Tail {
    /// Where to begin to see what is new.
    pub from: Mark,
    /// Whether new objects come last: none was older than those that had come some pages before it.
    pub is_ordered: bool,
    /// How many pages it had, and how many objects.
    pub pages: u64,
    pub objects: u64,
}

impl Mark {
    /// Whether nothing before it will be judged in another way just because time goes by.
    pub fn rests(&self, now: f64) -> bool {
        self.judged.rests(now)
    }
}

impl Walk {
    /// Nothing has come after that mark yet.
    pub fn from(mark: Mark) -> Self {
        let touched = Instant::now();
        Self { here: mark, token: None, marks: VecDeque::new(), is_ordered: true, empty: 0, touched }
    }

    /// Where the next page begins.
    pub fn next(&self) -> From<'_> {
        match (&self.token, &self.here.after) {
            (Some(token), _) => From::Token(token),
            (None, Some(key)) => From::After(key),
            (None, None) => From::Start,
        }
    }

    /// It was interrupted: the server's token may not be good any more when it goes on.
    pub fn rest(&mut self) {
        self.token = None;
    }

    /// When the last page came.
    pub fn touched(&self) -> Instant {
        self.touched
    }

    /// How far it is.
    pub fn here(&self) -> &Mark {
        &self.here
    }

    /// The next page, of objects whose keys begin with `prefix`. Says whether there are more.
    ///
    /// # Errors
    /// `protocol` if it is no next page.
    pub fn add(&mut self, rules: &Rules, look: &Look<'_>, prefix: &str, page: Page) -> Result<bool, Failure> {
        let wrong = |words: &'static str| Err(Failure::new(Reason::Protocol, words));
        if page.is_truncated && page.token.is_some() && page.token == self.token {
            return wrong("the server gives the same page of the listing again and again");
        }
        self.empty = if page.objects.is_empty() { self.empty + 1 } else { 0 };
        if page.is_truncated && (self.empty > MOST_EMPTY || page.objects.is_empty() && page.token.is_none()) {
            return wrong("the listing goes on and on without any object");
        }
        self.marks.push_back(self.here.clone());
        if self.marks.len() > TAIL {
            self.marks.pop_front();
        }
        let long_ago = self.marks.front().and_then(|mark| mark.newest);
        let judged = std::mem::take(&mut self.here.judged);
        let mut selection = Selection::go_on(rules, (look.now, look.open), judged);
        for object in &page.objects {
            let Some(name) = object.key.strip_prefix(prefix) else {
                return wrong("the listing has objects that were not asked for");
            };
            selection.add(Entry { name, size: object.size, modified: object.modified, grew: false })?;
            if rules.is_relevant(name) {
                self.is_ordered &= long_ago.is_none_or(|newest| object.modified >= newest);
                self.here.newest = Some(self.here.newest.map_or(object.modified, |newest| newest.max(object.modified)));
            }
        }
        self.here.judged = selection.pause();
        self.here.pages += 1;
        self.here.objects += page.objects.len() as u64;
        if let Some(last) = page.objects.into_iter().next_back() {
            self.here.after = Some(last.key);
        }
        self.token = page.token;
        self.touched = Instant::now();
        Ok(page.is_truncated)
    }

    /// What the listing comes to, after its last page.
    pub fn finish(self, rules: &Rules, look: &Look<'_>) -> (Found, Tail) {
        let Mark { judged, pages, objects, .. } = self.here;
        let found = Selection::go_on(rules, (look.now, look.open), judged).finish();
        let from = self.marks.into_iter().next().unwrap_or_default();
        (found, Tail { from, is_ordered: self.is_ordered, pages, objects })
    }
}
