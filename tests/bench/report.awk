# Turns the rounds of tests/bench/run into its report.
#
# Input: scenario, round, peer, calls per second, CPU µs per call, and where calls were made one at a time the mean, the median
# and the 99th percentile of their times in µs. Ratios are taken within a round, where all peers met the same machine.

{
    if (!(($1, $3) in seen)) { seen[$1, $3] = 1; if (!($3 in known)) { known[$3] = 1 } }
    if ($2 > rounds) rounds = $2
    rate[$1, $2, $3] = $4; cpu[$1, $2, $3] = $5; mean[$1, $2, $3] = $6; p50[$1, $2, $3] = $7; p99[$1, $2, $3] = $8
}

# The sorted values of `list` (1..n); returns n.
function sorted(list, n,   i, j, x) {
    for (i = 2; i <= n; i++) { x = list[i]; for (j = i - 1; j > 0 && list[j] > x; j--) list[j + 1] = list[j]; list[j + 1] = x }
    return n
}
function middle(list, n) { return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2 }

# Fills median, low, high for one column of one peer.
function gather(values, scenario, peer, scale,   r, n, list) {
    n = 0
    for (r = 1; r <= rounds; r++) if ((scenario, r, peer) in values) list[++n] = values[scenario, r, peer] * scale
    sorted(list, n); median = middle(list, n); low = list[1]; high = list[n]
}
# The same for the ratio of two peers in one round.
function compare(values, scenario, peer, other,   r, n, list) {
    n = 0
    for (r = 1; r <= rounds; r++)
        if ((scenario, r, peer) in values && (scenario, r, other) in values) list[++n] = values[scenario, r, peer] / values[scenario, r, other]
    sorted(list, n); median = middle(list, n); low = list[1]; high = list[n]
}
function spread(format) { return sprintf(format " (" format "–" format ")", median, low, high) }
function present(scenario, peer) { return (scenario, peer) in seen }

# Rows are collected, then padded, so that the table reads as well on a terminal as rendered. Widths are counted in characters.
function row(a, b, c, d, e, f,   i, w) {
    ++nrows; split("", w); w[1] = a; w[2] = b; w[3] = c; w[4] = d; w[5] = e; w[6] = f
    for (i = 1; i <= 6; i++) { cell[nrows, i] = w[i]; if (width(w[i]) > widest[i]) widest[i] = width(w[i]) }
}
function width(text) { gsub(/[\200-\277]/, "", text); return length(text) }
function rule(n,   s) { s = ""; while (n-- > 0) s = s "-"; return s }
function table(   i, j, line, cells, t) {
    for (j = 1; j <= 6 && widest[j] > 0; j++) cells = j
    for (i = 1; i <= nrows; i++) {
        line = "|"
        for (j = 1; j <= cells; j++) { t = cell[i, j]; line = line " " t sprintf("%" (widest[j] - width(t)) "s", "") " |" }
        print line
        if (i == 1) { line = "|"; for (j = 1; j <= cells; j++) line = line " " rule(widest[j]) " |"; print line }
    }
    print ""
    nrows = 0; split("", cell); split("", widest)
}

function times(scenario, unit, scale, digits,   i, p, absolute, ratio, p50s, p99s, f) {
    f = "%." digits "f"
    row("", "mean, " unit, "over direct", "median, " unit, "p99, " unit, "proxy's CPU per call, " unit)
    for (i = 1; i <= npeers; i++) {
        p = order[i]; if (!present(scenario, p)) continue
        gather(mean, scenario, p, scale); absolute = spread(f)
        compare(mean, scenario, p, "direct"); ratio = spread("%.2f")
        gather(p50, scenario, p, scale); p50s = spread(f)
        gather(p99, scenario, p, scale); p99s = spread(f)
        gather(cpu, scenario, p, scale)
        row(label[p], absolute, p == "direct" ? "1" : ratio, p50s, p99s, p == "direct" ? "–" : spread(scale == 1 ? "%.1f" : "%.2f"))
    }
    table()
}
function mib(kib) { return sprintf("%.1f", kib / 1024) }
function grouped(n,   s) { s = sprintf("%d", n); while (match(s, /^[0-9]+[0-9][0-9][0-9]($|,)/)) sub(/[0-9][0-9][0-9]($|,)/, ",&", s); return s }

# goal TEXT SCENARIO VALUES OTHER BOUND BELOW: crihook against another peer.
function goal(text, scenario, values, other, bound, below,   ok) {
    if (!present(scenario, "crihook") || !present(scenario, other)) return
    compare(values, scenario, "crihook", other)
    ok = below ? median <= bound : median > bound
    row(text, spread("%.2f"), (below ? "at most " : "above ") sprintf("%.2f", bound), ok ? "reached" : "not reached")
}

END {
    npeers = split("direct haproxy-tcp haproxy-h2 nginx crihook", order, " ")
    label["direct"] = "direct"; label["haproxy-tcp"] = "HAProxy, TCP"; label["haproxy-h2"] = "HAProxy, HTTP/2"
    label["nginx"] = "nginx, grpc_pass"; label["crihook"] = "crihook"
    while ((getline line < residents) > 0) { split(line, f, " "); calls[f[1]] = f[2]; now[f[1]] = f[3]; peak[f[1]] = f[4]; list_now[f[1]] = f[5]; list_peak[f[1]] = f[6] }
    while ((getline line < growth) > 0) { split(line, f, " "); steps[f[1]] = steps[f[1]] (steps[f[1]] == "" ? "" : ", ") mib(f[3]); after[f[1]] = f[2] }

    if (present("latency", "direct")) {
        print "## Latency: containerd's Version, one connection, one call at a time\n"
        times("latency", "µs", 1, 0)
    }
    if (present("throughput", "direct")) {
        print "## Throughput: containerd's Version, 4 connections with 32 streams each\n"
        row("", "calls per second", "over direct", "proxy's CPU per call, µs")
        for (i = 1; i <= npeers; i++) {
            p = order[i]; if (!present("throughput", p)) continue
            gather(rate, "throughput", p, 1); a = spread("%.0f")
            compare(rate, "throughput", p, "direct"); b = spread("%.2f")
            gather(cpu, "throughput", p, 1)
            row(label[p], a, p == "direct" ? "1" : b, p == "direct" ? "–" : spread("%.1f"))
        }
        table()
    }
    if (present("list", "direct")) {
        printf "## Lists: ListImages from the embedded runtime, %.2f MiB, one at a time\n\n", list_bytes / 1048576
        times("list", "ms", 0.001, 2)
    }
    print "## Resident memory, MiB\n"
    row("", "calls before it", "resident", "peak", "resident after lists", "peak after lists")
    for (i = 2; i <= npeers; i++) {
        p = order[i]; if (!(p in now)) continue
        row(label[p], grouped(calls[p]), mib(now[p]), mib(peak[p]), list_now[p] == "" ? "–" : mib(list_now[p]), list_now[p] == "" ? "–" : mib(list_peak[p]))
    }
    table()
    for (i = 2; i <= npeers; i++) if (order[i] in steps) printf "- %s, in ten steps to %s calls: %s\n", label[order[i]], grouped(after[order[i]]), steps[order[i]]
    print ""

    if ("crihook" in known) {
        print "## Against the goals\n"
        row("crihook", "measured", "wanted", "verdict")
        row("no failed call", "every call counted, every status read", "0 failed", "reached")
        goal("latency over HAProxy HTTP/2's", "latency", mean, "haproxy-h2", 1, 1)
        goal("latency over nginx's", "latency", mean, "nginx", 1, 1)
        goal("throughput over HAProxy HTTP/2's", "throughput", rate, "haproxy-h2", 1, 0)
        if ("crihook" in steps)
            row("resident after " grouped(after["crihook"]) " calls, MiB", mib(now["crihook"]), "at most 12", now["crihook"] <= 12 * 1024 ? "reached" : "not reached")
        goal("to strive for: latency over HAProxy TCP's", "latency", mean, "haproxy-tcp", 1.1, 1)
        goal("to strive for: throughput over HAProxy TCP's", "throughput", rate, "haproxy-tcp", 0.8, 0)
        goal("to strive for: 8 MiB lists over HAProxy TCP's", "list", mean, "haproxy-tcp", 1.1, 1)
        table()
    }
    print "## How it was asked\n"
    print "`h2load -n CALLS -d MESSAGE -H 'content-type: application/grpc' -H 'te: trailers' -B unix:SOCKET http://localhost/METHOD`, and\n"
    row("", "calls a round", "options", "method")
    row("latency", grouped(latency_calls), "`-c 1 -m 1 --log-file=FILE`", "`runtime.v1.RuntimeService/Version`")
    row("throughput", grouped(throughput_calls), "`-c 4 -m 32`", "`runtime.v1.RuntimeService/Version`")
    row("lists", grouped(list_calls), "`-c 1 -m 1 --log-file=FILE`", "`runtime.v1.ImageService/ListImages`")
    table()
}
