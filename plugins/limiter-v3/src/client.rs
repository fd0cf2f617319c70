//! Whose bucket it is: what versions 1 and 2 kept as one text.

/// A client, and the tenant that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Client {
    pub(crate) tenant: Option<String>,
    pub(crate) name: String,
}

impl Client {
    /// Splits a key at its first `/`. Every key is a client's, and
    /// [`key`](Client::key) gives it back to the letter.
    pub(crate) fn of_key(key: &str) -> Self {
        match key.split_once('/') {
            Some((tenant, name)) => Client { tenant: Some(tenant.to_owned()), name: name.to_owned() },
            None => Client { tenant: None, name: key.to_owned() },
        }
    }

    /// The key that callers use.
    pub(crate) fn key(self) -> String {
        match self.tenant {
            Some(tenant) => [tenant.as_str(), "/", &self.name].concat(),
            None => self.name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_comes_back_to_the_letter() {
        for key in ["ada", "acme/ada", "/ada", "acme/", "a/b/c", "/", ""] {
            assert_eq!(Client::of_key(key).key(), key);
        }
    }
}
