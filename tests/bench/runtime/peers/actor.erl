%% Erlang/OTP: a gen_server that does the jobs of jobs.py. `erl -run actor main JOB SIZE` prints one line of JSON.
-module(actor).
-behaviour(gen_server).
-export([main/1, init/1, handle_call/3, handle_cast/2]).

%% The state is the total, and the next actor of the ring.
init(_) -> {ok, {0, none}}.

handle_call({get, N}, _From, {Total, Next}) -> {reply, Total + N, {Total + N, Next}}.

handle_cast({add, N}, {Total, Next}) -> {noreply, {Total + N, Next}};
handle_cast({report, To}, {Total, Next}) -> To ! {total, Total}, {noreply, {Total, Next}};
handle_cast({meet, Next}, {Total, _}) -> {noreply, {Total, Next}};
handle_cast({hop, 0, To}, State) -> To ! arrived, {noreply, State};
handle_cast({hop, Left, To}, {Total, Next}) -> gen_server:cast(Next, {hop, Left - 1, To}), {noreply, {Total, Next}}.

main([Job, Size]) ->
    {Seconds, Bytes} = job(list_to_atom(Job), list_to_integer(Size)),
    io:format("{\"job\": \"~s\", \"seconds\": ~.9f, \"grown\": ~b}~n", [Job, Seconds, Bytes]),
    halt(0).

job(tell, Size) ->
    [Actor] = actors(1),
    timed(fun() ->
        repeat(Size, fun() -> gen_server:cast(Actor, {add, 1}) end),
        Size = report([Actor])
    end);
job(ask, Size) ->
    [Actor] = actors(1),
    timed(fun() -> repeat(Size, fun() -> gen_server:call(Actor, {get, 1}) end) end);
job(in_flight, Size) ->
    [Actor] = actors(1),
    {Me, Each} = {self(), Size div members()},
    Asker = fun() ->
        repeat(Each, fun() -> gen_server:call(Actor, {get, 1}, infinity) end),
        Me ! done
    end,
    timed(fun() ->
        repeat(members(), fun() -> spawn(Asker) end),
        repeat(members(), fun() -> receive done -> ok end end)
    end);
job(fan_out, Size) ->
    Actors = actors(members()),
    Sweeps = Size div members(),
    timed(fun() ->
        repeat(Sweeps, fun() -> [gen_server:cast(Actor, {add, 1}) || Actor <- Actors] end),
        Size = report(Actors)
    end);
job(ring, Size) ->
    [First | Rest] = Actors = actors(members()),
    [gen_server:cast(Actor, {meet, Next}) || {Actor, Next} <- lists:zip(Actors, Rest ++ [First])],
    timed(fun() -> gen_server:cast(First, {hop, Size, self()}), receive arrived -> ok end end);
job(spawn, Size) ->
    timed(fun() -> put(kept, actors(Size)) end).

members() -> list_to_integer(os:getenv("BENCH_MEMBERS", "1000")).

actors(Count) -> [element(2, gen_server:start(?MODULE, [], [])) || _ <- lists:seq(1, Count)].

%% The sum of what all of them got, once they have got it.
report(Actors) ->
    [gen_server:cast(Actor, {report, self()}) || Actor <- Actors],
    lists:sum([receive {total, Total} -> Total end || _ <- Actors]).

repeat(0, _) -> ok;
repeat(Times, Do) -> Do(), repeat(Times - 1, Do).

timed(Do) ->
    erlang:garbage_collect(),
    Before = resident(),
    Began = erlang:monotonic_time(nanosecond),
    Do(),
    Seconds = (erlang:monotonic_time(nanosecond) - Began) / 1.0e9,
    {Seconds, resident() - Before}.

resident() ->
    {ok, Line} = file:read_file("/proc/self/statm"),
    [_, Pages | _] = binary:split(Line, <<" ">>, [global]),
    binary_to_integer(Pages) * 4096.
