//! The table of a plugin's methods.

#[cfg(feature = "async")]
use crate::OwnedCall;
use crate::{Call, Plugin, Reply, Result};
#[cfg(feature = "async")]
use std::{future::Future, ops::Deref, pin::Pin, sync::Arc};

/// The methods of a plugin, by name.
///
/// Filled once per instance by [`Plugin::methods`]. A name that is registered
/// twice keeps the later handler.
///
/// ```
/// use replug_plugin_api::prelude::*;
///
/// struct Words;
///
/// impl Plugin for Words {
///     type Config = ();
///
///     fn prepare((): (), _: &Context) -> Result<Self> {
///         Ok(Words)
///     }
///
///     fn methods(methods: &mut Methods<Self>) {
///         methods.method("count", "Counts the words of a text", |_, call| {
///             Ok(call.text()?.split_whitespace().count().to_string())
///         });
///         # #[cfg(feature = "async")]
///         methods.async_method("later", "The same, without a hurry", |_, call| async move {
///             replug_plugin_api::tokio::time::sleep(std::time::Duration::from_millis(5)).await;
///             call.context().call_async("words", "count", call.body()).await
///         });
///     }
/// }
/// ```
pub struct Methods<P: 'static> {
    entries: Vec<Method<P>>,
}

pub(crate) struct Method<P: 'static> {
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    pub(crate) handler: Handler<P>,
    pub(crate) is_repeatable: bool,
    pub(crate) samples: Vec<Vec<u8>>,
}

impl<P: 'static> Method<P> {
    fn new(name: &'static str, description: &'static str, handler: Handler<P>) -> Self {
        Method { name, description, handler, is_repeatable: false, samples: Vec::new() }
    }
}

type SyncHandler<P> = Box<dyn Fn(&P, &Call<'_>) -> Result<Reply> + Send + Sync>;
#[cfg(feature = "async")]
pub(crate) type ReplyFuture = Pin<Box<dyn Future<Output = Result<Reply>> + Send>>;
#[cfg(feature = "async")]
type AsyncHandler<P> = Box<dyn Fn(Shared<P>, OwnedCall) -> ReplyFuture + Send + Sync>;

/// The plugin as an async handler has it: usable from any thread, for as long as
/// the handler's future needs it. A version whose futures keep it is not dropped
/// before they are.
///
/// Where a share outlives the instance, because a closure on a thread of the
/// runtime goes on after the version was told to stop, the last one drops the
/// plugin, on that thread: a panic of its `drop` is reported to nobody then.
#[cfg(feature = "async")]
pub struct Shared<P: 'static>(Arc<dyn AsRef<P> + Send + Sync>);

#[cfg(feature = "async")]
impl<P: 'static> Shared<P> {
    pub(crate) fn new(owner: Arc<dyn AsRef<P> + Send + Sync>) -> Self {
        Shared(owner)
    }
}

#[cfg(feature = "async")]
impl<P: 'static> Clone for Shared<P> {
    fn clone(&self) -> Self {
        Shared(Arc::clone(&self.0))
    }
}

#[cfg(feature = "async")]
impl<P: 'static> Deref for Shared<P> {
    type Target = P;

    fn deref(&self) -> &P {
        (*self.0).as_ref()
    }
}

pub(crate) enum Handler<P: 'static> {
    Sync(SyncHandler<P>),
    #[cfg(feature = "async")]
    Async(AsyncHandler<P>),
}

impl<P: Plugin> Methods<P> {
    pub(crate) fn of_plugin() -> Self {
        let mut methods = Methods { entries: Vec::new() };
        P::methods(&mut methods);
        // The later of two equal names wins: a stable sort keeps their order.
        methods.entries.reverse();
        methods.entries.sort_by_key(|method| method.name);
        methods.entries.dedup_by_key(|method| method.name);
        methods
    }

    /// Registers a method that answers on the caller's thread.
    pub fn method<F, R>(&mut self, name: &'static str, description: &'static str, handler: F) -> &mut Self
    where
        F: Fn(&P, &Call<'_>) -> Result<R> + Send + Sync + 'static,
        R: Into<Reply>,
    {
        let handler = Handler::Sync(Box::new(move |plugin, call| handler(plugin, call).map(Into::into)));
        self.entries.push(Method::new(name, description, handler));
        self
    }

    /// Registers a method that runs on the plugin's own async runtime, where
    /// timers, sockets and `tokio::spawn` work. Dropping the call on the
    /// caller's side cancels it at its next await.
    #[cfg(feature = "async")]
    pub fn async_method<F, Fut, R>(
        &mut self,
        name: &'static str,
        description: &'static str,
        handler: F,
    ) -> &mut Self
    where
        F: Fn(Shared<P>, OwnedCall) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R>> + Send + 'static,
        R: Into<Reply>,
    {
        let handler = Handler::Async(Box::new(move |plugin, call| {
            let answer = handler(plugin, call);
            Box::pin(async move { answer.await.map(Into::into) })
        }));
        self.entries.push(Method::new(name, description, handler));
        self
    }

    /// Says of the method registered last that its calls may be made once more, in
    /// rehearsals of this version and of the one before: it does nothing outside of the
    /// instance. A host that keeps recent calls of the plugin makes them on both then, and
    /// lists answers that differ.
    ///
    /// The instance has its configuration and its state there, its tables are empty, it
    /// was not activated, and other plugins cannot be called.
    pub fn repeatable(&mut self) -> &mut Self {
        if let Some(last) = self.entries.last_mut() {
            last.is_repeatable = true;
        }
        self
    }

    /// Gives an example of a call of the method registered last, which is
    /// [`repeatable`](Self::repeatable) by that: each rehearsal makes it, and refuses a
    /// version that answers with an error.
    ///
    /// ```
    /// # use replug_plugin_api::prelude::*;
    /// # struct Words;
    /// # impl Plugin for Words {
    /// #     type Config = ();
    /// #     fn prepare((): (), _: &Context) -> Result<Self> {
    /// #         Ok(Words)
    /// #     }
    /// fn methods(methods: &mut Methods<Self>) {
    ///     methods
    ///         .method("count", "Counts the words of a text", |_, call| {
    ///             Ok(call.text()?.split_whitespace().count().to_string())
    ///         })
    ///         .sample("two words");
    /// }
    /// # }
    /// ```
    pub fn sample(&mut self, body: impl Into<Vec<u8>>) -> &mut Self {
        if let Some(last) = self.entries.last_mut() {
            last.samples.push(body.into());
        }
        self.repeatable()
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Method<P>> {
        let at = self.entries.binary_search_by(|method| method.name.cmp(name)).ok()?;
        Some(&self.entries[at])
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Method<P>> {
        self.entries.iter()
    }
}
