package main

// A pipe that is spread over several connections.
var striping = []mutant{
	{"a write goes on where it should not", "invariant 2", "node/striped.go",
		"s.at, s.room = (s.at+1)%len(s.lanes), wire.StripeBlock", "s.at, s.room = (s.at+2)%len(s.lanes), wire.StripeBlock", "node", "TestWhatIsScatteredIsGathered"},
	{"a connection's turn never ends", "invariant 2", "node/striped.go",
		"		g.room -= n\n", "", "node", "TestWhatIsScatteredIsGathered"},
	{"what was read behind a SPREAD is lost", "cause 7", "node/striped.go",
		"append(append([]byte(nil), rest...), g.rest...), nil", "nil, nil", "node", "TestWhatIsReadWithASpreadIsNotLost"},
	{"what waits for a connection is forgotten when the pipe is gathered", "cause 7", "node/striped.go",
		"		if last {\n			break\n", "		if last || len(l.more) > 0 {\n			break\n", "node", "TestWhatIsScatteredIsGathered"},
	{"the end of one connection looks like that of a socket", "cause 7", "node/striped.go",
		`errors.New("a connection of the pipe: " + err.Error())`, `fmt.Errorf("a connection of the pipe: %w", err)`, "node", "TestTheEndOfAFurtherConnectionIsNoEndOfASocket"},
	{"the end of one connection is the end of the stream", "cause 7", "node/striped.go",
		"	case g.at > 0:\n		err = io.ErrUnexpectedEOF\n	}\n	if err != nil && g.at > 0 {\n		err = cutOff(err)\n	}\n", "	}\n",
		"node", "TestTheEndOfAFurtherConnectionIsNoEndOfASocket"},
	{"a lane takes whatever comes", "credit", "node/striped.go",
		"n := min(len(b), laneBytes-len(l.buf))", "n := len(b)", "node", "TestALaneHoldsSoMuchAndNoMore"},
	{"another node's ticket will do", "trust", "node/stripes.go",
		"case l.peer.ID != who.ID || ", "case ", "node", "TestAFurtherConnectionIsForItsLinkAlone"},
	{"as many connections as one likes", "trust", "node/stripes.go",
		"	case int(j.Number) >= l.most:", "	case false:", "node", "TestAFurtherConnectionIsForItsLinkAlone"},
	{"a pipe is spread over more than was agreed", "trust", "node/striped.go",
		" || int(sp.Connections) > g.most", "", "node", "TestNobodySpreadsAPipeFurtherThanWasAgreed"},
}
