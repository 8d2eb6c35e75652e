package history

import (
	"bytes"
	"fmt"
	"testing"
	"testing/fstest"
)

// A million messages through one sender and one puller.
func BenchmarkCheckMillion(b *testing.B) {
	const count = 1_000_000
	const stream = "esyi47o2z4m67jbrvfme7bmkh4.ciuilrcjfixcxno6b55rshiv5u.default.push.jobs"
	var push, pull bytes.Buffer
	fmt.Fprintf(&push, `{"v":1,"t":1,"event":"ready","id":"esyi47o2z4m67jbrvfme7bmkh4","incarnation":1}`+"\n")
	fmt.Fprintf(&pull, `{"v":1,"t":1,"event":"ready","id":"sihaafysfxpps2zivlt2dybv4a","incarnation":1}`+"\n")
	for n := range count {
		fmt.Fprintf(&push, `{"v":1,"t":13426695533217,"event":"send","n":%d,"hash":"%016x","size":100}`+"\n", n, n)
		fmt.Fprintf(&push, `{"v":1,"t":13426695533218,"event":"sent","n":%d,"stream":"%s","seq":%d,"level":"durable"}`+"\n", n, stream, n+1)
		fmt.Fprintf(&pull, `{"v":1,"t":13426702942842,"event":"deliver","from":"esyi47o2z4m67jbrvfme7bmkh4","stream":"%s","seq":%d,"attempt":1,"redelivered":false,"hash":"%016x","size":100}`+"\n", stream, n+1, n)
		fmt.Fprintf(&pull, `{"v":1,"t":13426702942843,"event":"done","stream":"%s","seq":%d}`+"\n", stream, n+1)
		fmt.Fprintf(&push, `{"v":1,"t":13426702942844,"event":"settled","n":%d,"stream":"%s","seq":%d,"state":"done","by":"sihaafysfxpps2zivlt2dybv4a"}`+"\n", n, stream, n+1)
	}
	fmt.Fprintf(&push, `{"v":1,"t":13427021726781,"event":"summary","ledger":{"accepted":%d,"done":%d,"dropped":{}}}`+"\n", count, count)
	files := fstest.MapFS{"push": {Data: push.Bytes()}, "pull": {Data: pull.Bytes()}}
	run := Run{Lives: []Life{{Role: "push", Log: "push", End: End{How: Exited}}, {Role: "pull", Log: "pull", End: End{How: Exited}}}, Drained: true}
	b.SetBytes(int64(push.Len() + pull.Len()))
	b.ReportAllocs()
	for b.Loop() {
		report, err := Check(files, run)
		if err != nil {
			b.Fatal(err)
		}
		if !report.OK() || report.Deliveries != count {
			b.Fatal(report)
		}
	}
}
