package spool

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"syscall"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

var _ badger.Logger = badgerLog{}

func TestBadgerLogsThroughSlog(t *testing.T) {
	var out bytes.Buffer
	log := badgerLog{slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), func(err error) {
		t.Errorf("harmless lines failed the store: %v", err)
	}}
	log.Debugf("dropped %d\n", 1)
	log.Infof("info %d\n", 2)
	log.Warningf("warning %d\n", 3)
	log.Errorf("error %d\n", 4)
	got := out.String()
	for _, want := range []string{`level=DEBUG msg="badger: info 2"`, `level=WARN msg="badger: warning 3"`, `level=ERROR msg="badger: error 4"`} {
		if !strings.Contains(got, want) {
			t.Errorf("log lacks %s\n%s", want, got)
		}
	}
	if strings.Contains(got, "dropped") {
		t.Errorf("debug line was logged\n%s", got)
	}
}

func TestFailuresBadgerOnlyLogsMakeTheStoreReadOnly(t *testing.T) {
	for text, damaged := range map[string]bool{
		"Error while curlf sync: input/output error\n": false,
		"error flushing memtable to disk: no space":    false,
		"Ignoring table 000003.sst":                    true,
		"Unable to read: Key: [1]":                     true,
	} {
		s := mustOpen(t, t.TempDir())
		badgerLog{s.log, s.fail}.Errorf("%s", text)
		err := s.See([16]byte{1}, 1)
		if !errors.Is(err, ErrFailed) || errors.Is(err, ErrDamaged) != damaged {
			t.Errorf("after %q: %v", text, err)
		}
	}
}

func TestWantOfResourcesIsNotCalledDamage(t *testing.T) {
	// Badger flattens the chain of errors to text.
	err := explain(errors.New("while opening memtables err: open x: " + syscall.ENOSPC.Error()))
	if errors.Is(err, ErrDamaged) {
		t.Errorf("a full disk is called damage: %v", err)
	}
	if err := explain(errors.New("manifest has bad magic\n")); !errors.Is(err, ErrDamaged) {
		t.Errorf("a bad manifest is not called damage: %v", err)
	}
}
