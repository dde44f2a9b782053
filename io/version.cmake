# Writes OUT, the source of kVersionText (base/version.h), from VERSION and what git says of the tree at SOURCE. Runs at every
# build; the file is left alone when it says the same already.
cmake_minimum_required(VERSION 3.25)
execute_process(COMMAND ${CMAKE_COMMAND} -E env GIT_OPTIONAL_LOCKS=0 git describe --always --dirty --abbrev=12
                WORKING_DIRECTORY ${SOURCE} OUTPUT_VARIABLE build OUTPUT_STRIP_TRAILING_WHITESPACE
                ERROR_QUIET RESULT_VARIABLE status)
# Without git, or in an unpacked archive, which may lie in another project's tree.
if(NOT status EQUAL 0 OR NOT EXISTS ${SOURCE}/.git)
  set(build unknown)
endif()
file(CONFIGURE OUTPUT ${OUT} @ONLY CONTENT [==[
#include "io/base/version.h"

namespace ustcp {

[[gnu::used]] const char kVersionText[] = "libustcp @VERSION@, build @build@";

}  // namespace ustcp
]==])
