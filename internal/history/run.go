package history

// A Run is a history to be judged. It is plain data, so it can be kept as JSON beside the logs.
type Run struct {
	Lives    []Life   `json:"lives"`               // in the order in which they were started
	ExecLogs []string `json:"exec_logs,omitempty"` // files of rep --exec-log
	Drained  bool     `json:"drained"`             // the run claims that nothing is owed any more: I1, I12 and I16 hold
	Replayed bool     `json:"replayed,omitempty"`  // dead letters were sent again, each as a new message
	Healed   int64    `json:"healed,omitempty"`    // when the last fault ended, in ns of the events' clock
	Within   int64    `json:"within,omitempty"`    // ns after Healed in which all must have drained; 0: no limit
}

// A Life is one process from its start to its end.
type Life struct {
	Role  string `json:"role"`            // the verb it ran
	Store string `json:"store,omitempty"` // its state directory; lives with the same one continue each other. Empty: ephemeral
	Sub   string `json:"sub,omitempty"`   // the durable subscription of a sub
	Some  bool   `json:"some,omitempty"`  // a sub that has patterns, so that not every message is for it
	Level string `json:"level,omitempty"` // of a req: idempotent, once or once-durable
	Log   string `json:"log"`             // the file with what it printed
	End   End    `json:"end"`
}

// End is how a life ended.
type End struct {
	How  How `json:"how"`
	Code int `json:"code,omitempty"` // of Exited
}

// How tells ends apart.
type How string

// The ends of a life. What was killed or cut off may have done more than it has printed.
const (
	Exited   How = "exited"
	Killed   How = "killed"
	PowerCut How = "power cut"
)

func (e End) abrupt() bool { return e.How != Exited }
