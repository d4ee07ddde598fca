/* Where a result comes from: written into every record before it starts. */
#ifndef COP_DRIVE_PROVENANCE_H
#define COP_DRIVE_PROVENANCE_H

#include "config/config.h"
#include "drive/encoder.h"
#include "record/record.h"

/* Every configuration key as `config.<path>` with `config.<path>.origin` (default, file, command
 * line), and: coppice_version, git_revision, compiler, flags, mpi, hdf5, host, start_time. */
void cop_provenance_write(cop_record *record, const cop_config *cfg, const char *mpi_version);

/* What computes: model (preset or folder), model.family (of a checkpoint; "preset"),
 * model.parameters, model.fingerprint; and text.tokenizer, text.template, text.vocab where the
 * workload is text (else NULL). */
cop_status cop_provenance_model(cop_record *record, const cop_weights *weights,
                                const cop_encoder *encoder, cop_error *err);

const char *cop_build_revision(void);
const char *cop_build_compiler(void);

#endif
