#!/usr/bin/env escript
%% What `bench state` is held against: a gen_server with the rows of the sample
%% plugin `sessions`, brought from their first shape to their second as a release
%% upgrade does it, while a caller reads rows at random.
%%
%% For each number of rows given, a line: the rows, microseconds from suspending
%% the process to resuming it, and microseconds of the caller's longest call.
-mode(compile).

main(Arguments) ->
    [measure(list_to_integer(Argument)) || Argument <- Arguments].

measure(Rows) ->
    load(1),
    {ok, Server} = gen_server:start(sessions, Rows, [{timeout, infinity}]),
    Self = self(),
    Caller = spawn_link(fun() -> call(Server, Rows, Self, 0) end),
    timer:sleep(200),
    load(2),
    Begun = erlang:monotonic_time(microsecond),
    ok = sys:suspend(Server, infinity),
    ok = sys:change_code(Server, sessions, undefined, [], infinity),
    ok = sys:resume(Server, infinity),
    Pause = erlang:monotonic_time(microsecond) - Begun,
    timer:sleep(200),
    Caller ! stop,
    Longest = receive {longest, Time} -> Time end,
    {session, _, _, _, _} = gen_server:call(Server, {get, key(0)}, infinity),
    ok = gen_server:stop(Server),
    io:format("~b ~b ~b~n", [Rows, Pause, Longest]).

call(Server, Rows, Owner, Longest) ->
    receive
        stop -> Owner ! {longest, Longest}
    after 0 ->
        Key = key(rand:uniform(Rows) - 1),
        Begun = erlang:monotonic_time(microsecond),
        gen_server:call(Server, {get, Key}, infinity),
        Took = erlang:monotonic_time(microsecond) - Begun,
        call(Server, Rows, Owner, max(Longest, Took))
    end.

key(Number) ->
    <<"t", (integer_to_binary(Number))/binary>>.

%% Makes a version of the server the current one.
load(Version) ->
    Forms = [form(Text) || Text <- source(Version)],
    {ok, sessions, Binary} = compile:forms(Forms, []),
    code:purge(sessions),
    {module, sessions} = code:load_binary(sessions, "sessions.erl", Binary).

form(Text) ->
    {ok, Tokens, _} = erl_scan:string(Text),
    {ok, Form} = erl_parse:parse_form(Tokens),
    Form.

source(Version) ->
    ["-module(sessions).",
     "-export([init/1, handle_call/3, handle_cast/2, code_change/3]).",
     "init(Rows) -> {ok, maps:from_list([row(Number) || Number <- lists:seq(0, Rows - 1)])}.",
     "handle_call({get, Key}, _, Sessions) -> {reply, maps:get(Key, Sessions), Sessions}.",
     "handle_cast(_, Sessions) -> {noreply, Sessions}."
     | shape(Version)].

shape(1) ->
    ["row(Number) ->"
     " {<<\"t\", (integer_to_binary(Number))/binary>>,"
     "  {session, <<\"u\", (integer_to_binary(Number div 4))/binary>>, Number, 0}}.",
     "code_change(_, Sessions, _) -> {ok, Sessions}."];
shape(2) ->
    ["row(Number) ->"
     " {<<\"t\", (integer_to_binary(Number))/binary>>,"
     "  {session, <<\"u\", (integer_to_binary(Number div 4))/binary>>, Number, Number, 0}}.",
     "code_change(_, Sessions, _) ->"
     " Change = fun(_, {session, User, Opened, Hits}) -> {session, User, Opened, Opened, Hits} end,"
     " {ok, maps:map(Change, Sessions)}."].
