package history

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"
)

const deliverLine = `{"v":1,"t":5,"event":"deliver","from":"n","stream":"n.s.ns.push.q","seq":7,"attempt":1,"redelivered":true,` +
	`"hash":"2012176e21879024","size":20,"topic":"a \"b\""}`

func TestLineIsRead(t *testing.T) {
	e, err := parse([]byte(deliverLine))
	if err != nil {
		t.Fatal(err)
	}
	hash, err := e.hashed()
	if err != nil {
		t.Fatal(err)
	}
	if e.t != 5 || string(e.kind) != "deliver" || string(e.from) != "n" || string(e.stream) != "n.s.ns.push.q" || e.seq != 7 ||
		!e.redelivered || hash != 0x2012176e21879024 {
		t.Errorf("got %+v", e)
	}
	e, err = parse([]byte(`{"v":1,"t":-3,"event":"gap","from":3,"to":9,"reason":"\u0065xpired","ledger":{"done":{"a":[1,"}"]}}} `))
	if err != nil {
		t.Fatal(err)
	}
	if e.t != -3 || e.first != 3 || e.last != 9 || string(e.reason) != "expired" || string(e.ledger) != `{"done":{"a":[1,"}"]}}` {
		t.Errorf("got %+v", e)
	}
}

func TestLineThatIsNoEventIsAnError(t *testing.T) {
	for _, line := range []string{
		``, `x`, `{`, `{}`, `[]`, `{"v":1}`, `{"v":2,"event":"a"}`, `{"event":"a"}`, `{"v":1,"event":"a"`, `{"v":1,"event":"a"}}`,
		`{"v":1,"event":"a","seq":-1}`, `{"v":1,"event":"a","seq":18446744073709551616}`, `{"v":1,"event":"a","t":9223372036854775808}`,
		`{"v":1,"event":"a","seq":"1"}`, `{"v":1,"event":"a","redelivered":1}`, `{"v":1,"event":a}`, `{"v":1,,"event":"a"}`,
		`{"v":1,"event":"a` + "\x01" + `"}`, `{"v":1,"event":"\q"}`, `{"v":1,"even\u0074":"a"}`,
		`{"v":1,"event":"a","x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`,
	} {
		if e, err := parse([]byte(line)); err == nil {
			t.Errorf("%.60s: got %+v, want an error", line, e)
		}
	}
}

// What is valid is read as encoding/json reads it.
func FuzzParse(f *testing.F) {
	f.Add([]byte(deliverLine))
	f.Add([]byte(`{"v":1,"t":1,"event":"summary","ledger":{"carried":0,"dropped":{}}}`))
	f.Add([]byte(`{"v":1,"t":1,"event":"gap","stream":"a.b.c.push.d","from":1,"to":2,"reason":"expired"}`))
	f.Add([]byte(`{"v" : 1, "event":"\ud83d\ude00", "seq":0, "seq":1}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := parse(line)
		if err != nil || !utf8.Valid(line) {
			return
		}
		var want map[string]json.RawMessage
		if json.Unmarshal(line, &want) != nil {
			return // quick rather than strict
		}
		for key, got := range map[string]any{"event": string(e.kind), "seq": e.seq, "t": e.t, "stream": string(e.stream),
			"redelivered": e.redelivered, "to": e.last, "n": e.n, "state": string(e.state)} {
			raw, there := want[key]
			if !there {
				raw = map[bool]json.RawMessage{true: []byte(`""`), false: []byte(`0`)}[isString(got)]
				if got == false {
					raw = []byte("false")
				}
			}
			if !same(raw, got) {
				t.Errorf("%s: %s is read as %v", line, raw, got)
			}
		}
	})
}

func isString(v any) bool { _, ok := v.(string); return ok }

// same reports whether raw means v.
func same(raw []byte, v any) bool {
	switch v := v.(type) {
	case string:
		var s string
		return json.Unmarshal(raw, &s) == nil && s == v
	case uint64:
		var n uint64
		return json.Unmarshal(raw, &n) == nil && n == v
	case int64:
		var n int64
		return json.Unmarshal(raw, &n) == nil && n == v
	case bool:
		var b bool
		return json.Unmarshal(raw, &b) == nil && b == v
	}
	return false
}

// A history of garbage is an error or a report, and needs no more memory than it is long.
func FuzzCheck(f *testing.F) {
	f.Add([]byte(deliverLine+"\n"), []byte("5 2012176e21879024 n 1\n"))
	f.Add([]byte(`{"v":1,"t":1,"event":"send","n":0,"hash":"2012176e21879024"}`+"\n"+
		`{"v":1,"t":1,"event":"sent","n":0,"stream":"n.s.ns.push.q","seq":18446744073709551615,"level":"durable"}`+"\n"), []byte(""))
	f.Add([]byte(`{"v":1,"t":1,"event":"gap","stream":"n.s.ns.pub.q","from":0,"to":18446744073709551615}`+"\n"), []byte("\n"))
	f.Fuzz(func(t *testing.T, log, executions []byte) {
		files := fstest.MapFS{"log": {Data: log}, "executions": {Data: executions}}
		run := Run{Lives: []Life{{Role: "push", Log: "log", End: End{How: Killed}}, {Role: "req", Log: "log", End: End{How: Exited}}},
			ExecLogs: []string{"executions"}, Drained: true}
		if report, err := Check(files, run); err == nil && report.String() == "" {
			t.Error("a report without a word")
		}
	})
}

func TestHalfALineIsTheEndOnlyOfAProcessThatWasStopped(t *testing.T) {
	files := fstest.MapFS{"log": {Data: []byte(deliverLine + "\n" + deliverLine[:40])}}
	if _, err := Check(files, Run{Lives: []Life{{Log: "log", End: End{How: Killed}}}}); err != nil {
		t.Errorf("killed: got %v", err)
	}
	_, err := Check(files, Run{Lives: []Life{{Log: "log", End: End{How: Exited}}}})
	if err == nil || !strings.Contains(err.Error(), "log:2:") {
		t.Errorf("exited: got %v, want an error in log:2", err)
	}
}

func TestHistoryThatCannotBeReadIsAnError(t *testing.T) {
	files := fstest.MapFS{
		"garbage": {Data: []byte("x\n")},
		"label":   {Data: []byte(`{"v":1,"event":"done","stream":"a.b","seq":1}` + "\n")},
		"hash":    {Data: []byte(`{"v":1,"event":"send","n":1,"hash":"zz"}` + "\n")},
		"gap":     {Data: []byte(`{"v":1,"event":"gap","stream":"a.b.c.push.d","from":2,"to":1}` + "\n")},
		"ledger":  {Data: []byte(`{"v":1,"event":"summary","ledger":{"done":"x"}}` + "\n")},
		"long":    {Data: append(make([]byte, maxLine), '\n')},
	}
	for _, log := range []string{"garbage", "label", "hash", "gap", "ledger", "long", "absent"} {
		if _, err := Check(files, Run{Lives: []Life{{Log: log, End: End{How: Exited}}}}); err == nil || !strings.Contains(err.Error(), log) {
			t.Errorf("%s: got %v, want an error that names the file", log, err)
		}
	}
	if _, err := Check(files, Run{ExecLogs: []string{"garbage"}}); err == nil {
		t.Error("an exec log of garbage: got no error")
	}
}
