/* SPDX-License-Identifier: MIT */
/*
 * records.h - inputs that are records of one size.
 *
 * The first record is a setting, each of the others something that happens, in
 * that order. A fuzzer that links records.c has its inputs changed by record:
 * libFuzzer's own ways move bytes, and with them the meaning of all that follow.
 */
#ifndef FUZZ_RECORDS_H
#define FUZZ_RECORDS_H

#define RECORD_BYTES 8

#endif
