"""What all vendors of the sandbox share: one server, OAuth, webhooks, faults, limits, controls.

Adding a vendor
---------------
A module `sandbox/<slug>.py`, or a package where it outgrows one, that exports one value::


    vendor = Vendor(
        name="acme", title="Acme", base_url="https://api.acme.example/v1",
        auth=OAuth(                          # two vendors may hold the same value: one server,
            name="acme",                     # the same accounts and tokens for both
            client_id="...", client_secret="...",
            authorize=(("acme.example", "/authorize"),), token=(("api.acme.example", "/token"),),
            scopes=("read",), new_account=lambda random: ("id", "name for people"), ...),
        routes=(Route("GET", "api.acme.example", "/v1/things/{id}", thing), ...),
        streams=("things",),                 # the names of the facts file
        mutable=MUTATIONS.mutable, apply=MUTATIONS.apply,
        new=new, store=store, trouble=trouble, limits=(Limit("minute", 60, 60.0),),
    )

* A host may be a pattern, `*.acme.example`, of a vendor that gives each account a host: the handler
  looks at `call.host`. `answers(account_id)` is what a tenant is then asked before consent.
* A route that several vendors of one host list is one route: the first of them answers.
* The OAuth routes are the kernel's own: do not list them among `routes`. See `OAuth` for the rules
  it takes; `answer(issue)` shapes a token answer, `refuse(refusal, call)` an error.
* A vendor of API keys has an `OAuth` without places (`authorize=(), token=()`): its keys are access
  tokens of a long life, from `POST /_control/<slug>/grant`.
* `thing(call: Call) -> Response` is a plain function: the body is read, the token checked, the
  limits counted before. `call.state` is what `new` made for the account of the token;
  `call.params`, `.query` (multi), `.json()`, `.form()`, `.headers`, `.clock`, `.origin`, `.grant`,
  `.server` (the OAuth server). Links in answers come from `call.url(host, path, query)`. Raise
  `Answer(response)` to answer from a depth. A `Route(open=True)` needs no token; of its `scopes`
  the token needs one.
* `new(seed: Seed) -> state`: an account's data, any object of yours, made from `seed.random` and
  `seed.clock` alone; `seed.size` is about the length of the biggest stream, 0 makes it empty.
* `store(state, stream) -> {id: record}`: the live records only, each exactly as the API gives it
  when every field is asked for.
* `apply(state, change: Change) -> id`: carries out an ordered add, change or delete (the id exists,
  the kernel checked), sets `change.record`, fills the rest from `change.random`, with all the
  vendor's consequences: times, sequence numbers, delta logs. A change must really change something.
  Keep the clock in your state (`seed.clock`). Raise `RefusedError` for what cannot be done, or went
  with another record meanwhile: random changes pass over it.
  `Mutations` (`sandbox.kernel.mutations`) makes it, and `mutable`, of a function for each order.
  `mutate` with `late` stamps changes so many seconds before they are seen, as vendors do whose
  commits or search lag behind: `clock` then shows that earlier time while `apply` runs.
* `trouble(trouble, call) -> Response`: bad request, 401, 403, 404, 405, 429, 500 and 503 in the
  vendor's form. `trouble.kind` says which; the 429 carries the `Limit` that was hit, or None.
  `call.grant` may be None there.
* `limits`: `Limit(name, amount, per_seconds, cost=lambda call: 1)`, sliding, for each account; a
  cost of 0 leaves the call out. `rate_headers(usages)` makes the headers of every counted answer.
* `expire_checkpoints(state)`: where the vendor has delta positions. `account_controls`: further
  ones, `{"name": f}` with `f(state, body) -> dict`, at `POST /_control/<slug>/name`, over the
  account that the body names; `controls` of all, `f(states_by_account_id, body)`.
* `alterable(state, stream)`: the ids that may be changed or deleted, where that is not all of the
  store. `call.inner(call)` answers a request that came inside another (a part of a batch).
* `three_pages_at`: the size of an account whose biggest stream takes a client three pages at the
  least, where that is not 250. The suite of `tests/test_connectors.py` stops there.
* `extras(account_id, origin)`: what else a newcomer needs to know, for `describe`; in it
  `variables`, what an operator sets besides the app's client and the webhook's secret.

Ready-made
----------
* `mutations`: `mutable` and `apply` from functions that each say which orders they carry out.
* `querylang`: the tokens, conditions and orders of a query language that looks like SQL.
* `fields`: names, and types by name, declared in a text. `Seed.length`: how long a stream begins.
* `clock`: `stamp`, a time as most vendors write it, and `Clock.after`, of a change after another.
* `paging`: tokens that stand for places. `signing`: HMAC-SHA256 as vendors write it.
* `data`: made-up people, firms, addresses and times. `jwt`: signed tokens and their keys.

Its webhook
-----------
`webhook=Sender(...)` (`sandbox.kernel.webhooks`) says how the vendor tells an app what happened::

    webhook=Sender(
        compose=compose, deadline=5.0, retry=again_after(60, 300, then=3600), batch=100,
        notices=to_watches(concerns), acknowledges=lambda answered: answered.status == 200, ...)

* The state keeps `seed.tell` and calls it with anything of the vendor's own whenever its data
  changes, from a control or through the API alike. While a vendor has nobody to tell, this costs
  next to nothing; what is told while `new` runs is not heard, nor of an account without consent.
* `notices(event, outbox)` gives a `Notice` for each address that hears of it: the app's one
  (`to_app`, the default; a control sets it), or those of watches (`to_watches`). It may make
  several notices of one event, or none.
* `compose(delivery) -> Message` makes the call: pure, signed as of `delivery.now` with the secret
  of the address. It is asked again for each attempt. `event.id` and `delivery.id` stay the same,
  `delivery.attempt` counts; `notice.number` counts the notices of an address.
* Watches are made by the vendor's own API: the handler puts an `Address` with an `id` into
  `call.server.watches` (`add`, `get`, `of`, `remove`), with the secret it echoes or signs with, the
  `grant` it ends with and when it expires. Vendors that share an OAuth server share them, too: put
  into `about` what tells them apart. To go in one call, watches must be `together`.
* A handler that calls the app while its own call is open is a generator: it yields a `Message`, is
  sent what was `AppResponse`, and returns its Response. `handshake` does so for the app's address.
* `call.outbox.tell(account_id, what, at=later)`: for what no change of data causes, such as the
  first message of a new watch, or a warning before it ends.
* Controls at `/_control/<slug>/`: `webhook` is the app's address (GET, POST `{url, secret,
  ...settings}`); `deliveries` counts and lists them (GET), orders what `DeliveryControls` names
  (POST), forgets them all (DELETE); `burst` changes many accounts (POST `{count, accounts,
  streams, seed}`).
"""
