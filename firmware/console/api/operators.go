package api

import "time"

// Operators answers /api/v1/operators.
type Operators struct {
	Operators []Operator `json:"operators"`
}

// Operator is a person who may log in. Key is the public key, PKIX DER.
type Operator struct {
	Name       string    `json:"name"`
	Key        []byte    `json:"key"`
	Created    time.Time `json:"created"`
	Disabled   bool      `json:"disabled"`
	MustChange bool      `json:"must_change"`
	Passkeys   []Passkey `json:"passkeys"`
}

// Passkey is one that an operator signs in with. ID is base64url; Domain are the names of the consoles that it works at; Synced says that the
// operator's other devices may have copies.
type Passkey struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Domain  string    `json:"domain"`
	Created time.Time `json:"created"`
	Synced  bool      `json:"synced"`
}
