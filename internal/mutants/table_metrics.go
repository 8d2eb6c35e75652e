package main

// What is shown to Prometheus: true counts, and no more of them than was promised.
var showing = []mutant{
	{"every name is a label", "invariant 15", "node/metrics/slots.go",
		"		s.named[name] = s.used < s.most\n", "		s.named[name] = true\n", "node/metrics", "TestNamesBeyondTheBoundAreFoldedAndCounted"},
	{"a folded name gets a label later", "invariant 13", "node/metrics/slots.go",
		"		if _, known := s.named[name]; known {\n", "		if s.named[name] {\n", "node/metrics", "TestNamesBeyondTheBoundAreFoldedAndCounted"},
	{"a counter of many falls with one of them", "invariant 13", "node/metrics/figure.go",
		"	case f.kind == prometheus.CounterValue && (f.shaky || fold):\n", "	case f.kind == prometheus.CounterValue && f.shaky:\n",
		"node/metrics", "TestNamesBeyondTheBoundAreFoldedAndCounted"},
	{"sources that have gone are kept for ever", "invariant 15", "node/metrics/figure.go",
		"			delete(r.last, from)\n			continue\n", "			continue\n", "node/metrics", "TestCountersThatFallAtTheirSourceDoNot"},
	{"leased messages are not shown", "invariant 13", "node/metrics/sockets.go",
		"	p.count(senderOwed, l.Leased, \"leased\")\n", "", "node/metrics", "TestAScrapeTellsWhatHappened"},
	{"dropped messages are not shown", "invariant 13", "node/metrics/sockets.go",
		"		p.count(senderSettled, n, \"dropped\", reason)\n", "		_, _ = n, reason\n", "node/metrics", "TestTheLedgerHoldsInEveryScrape"},
	{"a remote code becomes a label", "invariant 15", "node/metrics/metrics.go",
		"	case slices.Contains(codes, code):\n", "	case slices.Contains(codes, code) || true:\n", "node/metrics", "TestOtherNodesInventNoLabels"},
}
