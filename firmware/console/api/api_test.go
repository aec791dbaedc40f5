package api

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestBytesShowAsTextOrHexAndReadBack(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"", `""`},
		{"/config/ttl", `"/config/ttl"`},
		{"grün\n", `"grün\n"`},
		{"\x00\x01", `"0x0001"`},
		{"\xff", `"0xff"`},
		{"0xcafe", `"0x307863616665"`},
		{"\u202eevil", `"0xe280ae6576696c"`},
	} {
		got, err := json.Marshal(Bytes(tc.in))
		if err != nil || string(got) != tc.want {
			t.Errorf("%q is shown as %s (%v), want %s", tc.in, got, err, tc.want)
		}
		var back Bytes
		if err := json.Unmarshal(got, &back); err != nil || string(back) != tc.in {
			t.Errorf("%s read back is %q (%v), want %q", got, back, err, tc.in)
		}
	}
}

func FuzzBytes(f *testing.F) {
	f.Add([]byte("0x"))
	f.Add([]byte{0xff, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		text, err := json.Marshal(Bytes(b))
		if err != nil {
			t.Fatal(err)
		}
		var back Bytes
		if err := json.Unmarshal(text, &back); err != nil || !bytes.Equal(back, b) {
			t.Fatalf("%q as %s is read as %q: %v", b, text, back, err)
		}
		var any Bytes
		_ = any.UnmarshalText(b) // must not panic
	})
}
